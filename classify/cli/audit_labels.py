"""`classify labels`: shows labels, tokens and prompt before a model is loaded."""

from typing import TYPE_CHECKING, Any, NamedTuple

from classify.cli.console import Notes
from classify.cli.task import declared_labels
from classify.cli.terminal import print_json
from classify.config import Task
from classify.config.decisions import about
from classify.markup import readable_piece
from classify.tracking import common_prefix_length

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from classify.verbalizer.audit import ExampleAudit, LabelAudit, ThoughtAudit

__all__ = [
    "SharedPrefix",
    "example_fact",
    "print_labels",
    "shared_prefixes",
    "slot_facts",
]

_MAX_SHARED = 12
# Characters of a long prompt's beginning, and of its end, that an example shows.
_HALF_SHOWN = 600
_THINKING = {
    "skipped": "the model can think; the template leaves the thinking block out",
    "closed": "the model can think; the thinking block is closed before the label",
    "open": "the label is read inside a thinking block",
}


def print_labels(task: Task, notes: Notes, *, as_json: bool) -> None:
    """Find the tokens of a task's labels, and print them."""
    parts = task.by_question()
    for part in parts.values():
        declared_labels(part)  # refuses a task without any
    if task.model.model == "demo":
        notes.note("Using the bundled demo model's tokenizer: choose with --model.")
    with notes.waiting("Loading the tokenizer …"):
        audits = {}
        for name, part in parts.items():
            with about(name):
                audits[name] = part.classifier().audit()
    if as_json:
        named = {name: _as_json(each) for name, each in audits.items()}
        print_json(named.get("") or {"questions": named})
        return
    for name, audit in audits.items():
        if name:
            notes.results(narrow=True).print(f"\n{name}", style="bold", markup=False)
        _print(audit, notes)


class SharedPrefix(NamedTuple):
    """Tokens that the paths of several words begin with."""

    token_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    words: tuple[str, ...]


def shared_prefixes(audit: "LabelAudit") -> tuple[SharedPrefix, ...]:
    """Group the words by their first token; what each group's paths share."""
    groups: dict[int, list[Any]] = {}
    for word in audit.words:
        groups.setdefault(word.token_ids[0], []).append(word)
    shared = []
    for group in groups.values():
        if len(group) < 2:
            continue
        n_shared = common_prefix_length(word.token_ids for word in group)
        shared.append(
            SharedPrefix(
                group[0].token_ids[:n_shared],
                group[0].pieces[:n_shared],
                tuple(word.word for word in group),
            )
        )
    return tuple(shared)


def _as_json(audit: "LabelAudit") -> dict[str, Any]:
    return {
        "words": [word._asdict() for word in audit.words],
        "shared_prefixes": [shared._asdict() for shared in shared_prefixes(audit)],
        "end": audit.end,
        "bos": audit.bos,
        "is_chat": audit.is_chat,
        "prompt": audit.prompt_text,
        "prompt_pieces": audit.prompt_pieces,
        "n_boundary_tokens": audit.n_boundary_tokens,
        "n_nodes": audit.n_nodes,
        "n_inner": audit.n_inner,
        "n_branching": audit.n_branching,
        "max_depth": audit.max_depth,
        "per_text": audit.per_text,
        "thinking": audit.thinking,
        "answer_end": audit.answer_end,
        "date": audit.date,
        "thought": None if audit.thought is None else audit.thought._asdict(),
        "examples": None if audit.examples is None else audit.examples._asdict(),
    }


def _print(audit: "LabelAudit", notes: Notes) -> None:
    from classify.cli.tables import facts_table

    console = notes.results(narrow=True)
    console.print(_words_table(audit))
    console.print(facts_table(_facts(audit)))


def _pieces(pieces: tuple[str, ...]) -> "Text":
    from rich.text import Text

    text = Text()
    for at, piece in enumerate(pieces):
        text.append(" " * bool(at))
        text.append(readable_piece(piece), style="cyan")
    return text


def _words_table(audit: "LabelAudit") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0)
    )
    table.add_column("label", style="bold", max_width=24)
    has_words = any(word.word != word.label for word in audit.words)
    if has_words:
        table.add_column("word", max_width=20)
    table.add_column("tokens")
    table.add_column("token ids", style="dim")
    last = None
    for word in audit.words:
        cells: list[Any] = [Text(word.label if word.label != last else "")]
        if has_words:
            cells.append(Text(word.word))
        ids = " ".join(map(str, word.token_ids))
        table.add_row(*cells, _pieces(word.pieces), ids)
        last = word.label
    return table


def _facts(audit: "LabelAudit") -> list[tuple[str, Any]]:
    from rich.text import Text

    facts = slot_facts(audit)
    if audit.examples is not None:
        facts += _example_facts(audit.examples)
    if audit.n_boundary_tokens:
        n = audit.n_boundary_tokens
        which = "last token merges" if n == 1 else f"last {n} tokens merge"
        facts.append(("Boundary", f"the prompt's {which} with the words, as one path"))
    facts.append(("End token", _end(audit)))
    trie = (
        f"{audit.n_nodes} nodes, {audit.n_inner} inner ({audit.n_branching} with a "
        f"choice), longest path {audit.max_depth} tokens"
    )
    facts.append(("Trie", trie))
    shared = shared_prefixes(audit)
    for at, prefix in enumerate(shared[:_MAX_SHARED]):
        value = _pieces(prefix.pieces) + Text(f" begins {_listed(prefix.words)}")
        facts.append(("" if at else "Shared", value))
    if len(shared) > _MAX_SHARED:
        facts.append(("", f"… {len(shared) - _MAX_SHARED} more; --json lists all"))
    if audit.per_text:
        facts.append(("Note", "the words' tokens depend on how a text ends"))
    return facts


def slot_facts(audit: "LabelAudit") -> list[tuple[str, Any]]:
    """Return where the label is read: what the prompt writes around an answer."""
    from rich.text import Text

    facts: list[tuple[str, Any]] = [
        ("Prompt starts", _start(audit)),
        ("Prompt ends", Text("… ") + _pieces(audit.prompt_pieces)),
    ]
    if audit.thought is not None:
        facts += _thought_facts(audit.thought)
    elif audit.thinking in _THINKING:
        facts.append(("Thinking", _THINKING[audit.thinking]))
    if audit.date is not None:
        facts.append(("Date", f"the chat template writes {audit.date} as today's date"))
    if audit.answer_end:
        facts.append(("Answer ends", _pieces((audit.answer_end,))))
    return facts


def example_fact(audit: "LabelAudit") -> tuple[str, Any]:
    """Return the prompt of a text, with where the label is read."""
    from rich.text import Text

    prompt, slot = audit.prompt_text, "cyan"
    if len(prompt) > 2 * _HALF_SHOWN:
        prompt = f"{prompt[:_HALF_SHOWN]}\n…\n{prompt[-_HALF_SHOWN:]}"
    shown = Text(prompt)
    if audit.thought is not None:
        shown.append("[thought]", slot)
        shown.append("".join(audit.thought.closing_pieces))
    shown.append("[label]", slot)
    shown.append(audit.answer_end or "")
    return "Example", shown


def _thought_facts(thought: "ThoughtAudit") -> list[tuple[str, Any]]:
    from rich.text import Text

    asked = "" if thought.is_native else ", as the prompt asks"
    says = (
        f"the model thinks there first{asked}, in at most {thought.max_tokens} tokens"
    )
    return [
        ("Thinking", says),
        ("Thought ends", _pieces((thought.end,))),
        ("Label follows", Text("… ") + _pieces(thought.closing_pieces)),
    ]


def _example_facts(examples: "ExampleAudit") -> list[tuple[str, Any]]:
    from rich.text import Text

    from classify.cli.tables import on_one_line

    source = f"{examples.n_rows:,} rows of {examples.source}"
    if not examples.shown:
        return [("Examples", f"the nearest to each text of {source}")]
    shown = [
        ("", Text(on_one_line(f"{label}: {text}"), no_wrap=True, overflow="ellipsis"))
        for text, label in examples.shown
    ]
    choice = f"{len(shown)} of {source}, {examples.choice}"
    return [("Examples", choice), *shown]


def _start(audit: "LabelAudit") -> "str | Text":
    if audit.is_chat:
        return "as the model's chat template writes it"
    return _pieces(audit.bos) if audit.bos else "nothing is put before it"


def _end(audit: "LabelAudit") -> "str | Text":
    from rich.text import Text

    if audit.end is None:
        return "none: no word is a prefix of another"
    pairs = [
        f"{word.word!r} begins {other!r}"
        for word in audit.words
        for other in word.prefix_of
    ]
    why = f", since {_listed(pairs, most=3)}" if pairs else ""
    return Text.assemble((readable_piece(audit.end), "cyan"), f" after every word{why}")


def _listed(names: Any, most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, … {len(names) - most} more" if len(names) > most else shown
