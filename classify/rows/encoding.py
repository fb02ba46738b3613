"""From rows, and the labels that each may get, to prompts that can be scored.

A row that cannot be asked (no text, too long, unknown candidates) becomes its error,
and the others continue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from classify.engines.turns import Shelf
from classify.errors import (
    ConfigError,
    InputError,
    LabelError,
    PromptError,
    PromptTooLongError,
)
from classify.labels import LabelSet
from classify.labels.tree import LevelLabels
from classify.prompts import PromptTemplate
from classify.prompts.compiling import with_examples
from classify.prompts.example_table import Example
from classify.prompts.few_shot import ExampleChooser
from classify.prompts.looks import Look, looks
from classify.prompts.shortlist import first_prompt, is_shortened
from classify.rows.shortlists import with_shortlists
from classify.tokenizer import Tokenizer
from classify.verbalizer import AnswerSpace, ScorablePrompt, Verbalizer
from classify.verbalizer.audit import ExampleAudit, LabelAudit
from classify.verbalizer.reasoned import ReasonedSpace
from classify.wording import parameter

__all__ = ["Row", "RowEncoder", "Space", "candidate_sets", "columns_of"]

Row = Mapping[str, str]
Space: TypeAlias = AnswerSpace | ReasonedSpace

# Compiled label sets that are kept, where candidates differ from text to text.
_MAX_SPACES = 256
# Rows that are encoded together: enough to keep a tokenizer's threads busy.
_ENCODED_TOGETHER = 1024


def candidate_sets(
    listed: Sequence[Sequence[str] | InputError] | None, declared: LabelSet | None
) -> list[LabelSet | InputError] | None:
    """Return the label set of each text's candidates, or what is wrong with them.

    Parameters
    ----------
    listed : sequence of sequences of str, or InputError; or None
        The names of each text's candidates. None gives None.
    declared : LabelSet or None
        Where given, candidates must be among these, and take their descriptions and
        words; else any names are allowed.
    """
    if listed is None:
        return None
    _refuse_levels(declared)
    made: dict[tuple[str, ...], LabelSet | InputError] = {}

    def make(names: tuple[str, ...]) -> LabelSet | InputError:
        try:
            if declared is None:
                return LabelSet.parse(names)
            for name in names:
                if declared.find(name) is None:
                    raise LabelError(
                        f"{declared.unknown(name)} For other candidates, leave out "
                        f"{parameter('labels')}."
                    )
            return declared.subset(names)
        except InputError as error:
            return error

    candidates: list[LabelSet | InputError] = []
    for names in listed:
        if isinstance(names, InputError):
            candidates.append(names)
            continue
        key = tuple(names)
        if key not in made:
            made[key] = make(key)
        candidates.append(made[key])
    return candidates


def _refuse_levels(declared: LabelSet | None) -> None:
    if isinstance(declared, LevelLabels):
        raise ConfigError(
            f"{parameter('tree_scoring', 'levels')} asks for all labels of a level, "
            f"and candidates are some: use {parameter('tree_scoring', 'paths')}."
        )


def columns_of(
    candidates: Sequence[LabelSet | InputError] | None, declared: LabelSet | None
) -> list[str]:
    """Return the sorted names of the declared labels, or else of all candidates.

    Examples
    --------
    >>> columns_of([LabelSet.parse(["b", "a"]), LabelSet.parse(["c", "a"])], None)
    ['a', 'b', 'c']
    """
    sets = candidates or () if declared is None else [declared]
    named = [labels.names for labels in sets if isinstance(labels, LabelSet)]
    return sorted({name for names in named for name in names})


class RowEncoder:
    """Encodes rows with one prompt recipe, one verbalizer and one tokenizer.

    Parameters
    ----------
    template : PromptTemplate
    verbalizer : Verbalizer
    tokenizer : Tokenizer
    max_thought_tokens : int, default=0
        How long the model may think before it answers; 0: it does not.
    """

    def __init__(
        self,
        template: PromptTemplate,
        verbalizer: Verbalizer,
        tokenizer: Tokenizer,
        max_thought_tokens: int = 0,
    ) -> None:
        self.template = template
        self.verbalizer = verbalizer
        self.tokenizer = tokenizer
        self.max_thought_tokens = max_thought_tokens
        self._ensemble = [
            RowEncoder(each, verbalizer, tokenizer, max_thought_tokens)
            for each in template.ensemble
        ]
        self._spaces: Shelf[tuple[LabelSet, int], tuple[Space, ...]] = Shelf(
            _MAX_SPACES
        )
        self._choosers: Shelf[LabelSet, ExampleChooser] = Shelf(_MAX_SPACES)

    def spaces(
        self, labels: LabelSet, n_examples: int | None = None
    ) -> tuple[Space, ...]:
        """Return the token paths of these labels after each prompt; compiled once.

        `n_examples` from a table are shown; None: as many as the recipe allows.
        """
        most = self.template.n_examples if self.template.chooses_examples else 0
        shown = most if n_examples is None else n_examples

        def compile_spaces() -> tuple[Space, ...]:
            return tuple(self._compiled(look, shown) for look in self._looks(labels))

        return self._spaces.get((labels, shown), compile_spaces)

    def _looks(self, labels: LabelSet) -> list[Look]:
        """Return the forms of the prompt; of levels, one for each choice.

        With more labels than are listed, that of the prompt which is asked first.
        """
        if not isinstance(labels, LevelLabels):
            return list(looks(self._first(labels), labels))
        levels = parameter("tree_scoring", "levels")
        if self.max_thought_tokens:
            reasons = parameter("strategy", "reason")
            raise PromptError(
                f"{levels} asks several times about a text, and {reasons} once: remove "
                "one of the two."
            )
        if self.template.examples:
            raise PromptError(
                f"{levels} asks for the labels of one level, and the examples have "
                f"those of the last: leave {parameter('examples')} out."
            )
        below = labels.tree.questions.values()
        found = [look for each in below for look in looks(self.template, each)]
        template = self.template
        if len(found) > len(below) or template.ensemble or template.shortlist:
            raise PromptError(
                f"{levels} needs one prompt for each level: leave out the settings "
                "that ask several times, such as n_orders."
            )
        return found

    def _first(self, labels: LabelSet) -> PromptTemplate:
        if not is_shortened(self.template, labels):
            return self.template
        looks(self.template, labels)  # refuses what the second prompt cannot ask
        has_chat = self.tokenizer.has_chat_template
        return first_prompt(self.template, labels, has_chat_template=has_chat)

    def _compiled(self, look: Look, n_examples: int) -> Space:
        most = self.max_thought_tokens
        prompt = look.compile(self.tokenizer, reasons=most > 0, n_examples=n_examples)
        if most:
            return ReasonedSpace(self.verbalizer, prompt, look.answers, most)
        return self.verbalizer.compile(prompt, look.answers)

    def encode(
        self,
        rows: Sequence[Row | InputError],
        labels: Sequence[LabelSet | InputError],
        context_length: int,
    ) -> list[ScorablePrompt | InputError]:
        """Encode rows; what cannot be asked stays, or becomes, an error.

        Parameters
        ----------
        rows : sequence of mapping or InputError, length n_texts
        labels : sequence of LabelSet or InputError, length n_texts
            The labels that each text may get.
        context_length : int
            Most tokens that the model takes, prompt and label together.

        Returns
        -------
        list of ScorablePrompt or InputError, length n_texts
        """
        members = [each.encode(rows, labels, context_length) for each in self._ensemble]
        own = self._encode_own(rows, labels, context_length)
        if not members:
            return own
        asked = zip(own, *members, strict=True)
        return [_joined(each, are_prompts=True) for each in asked]

    def _encode_own(
        self,
        rows: Sequence[Row | InputError],
        labels: Sequence[LabelSet | InputError],
        context_length: int,
    ) -> list[ScorablePrompt | InputError]:
        """Encode rows with the first prompt of an ensemble."""
        prompts: list[ScorablePrompt | InputError | None] = []
        members: dict[LabelSet, list[tuple[int, Row]]] = {}
        for at, (row, allowed) in enumerate(zip(rows, labels, strict=True)):
            if isinstance(row, InputError):
                prompts.append(row)
            elif isinstance(allowed, InputError):
                prompts.append(allowed)
            else:
                prompts.append(None)
                members.setdefault(allowed, []).append((at, row))
        for allowed, group in members.items():
            for start in range(0, len(group), _ENCODED_TOGETHER):
                places, batch = zip(
                    *group[start : start + _ENCODED_TOGETHER], strict=True
                )
                found: Sequence[ScorablePrompt | InputError]
                try:
                    found = self._encode_together(batch, allowed, context_length)
                except InputError as error:
                    # Of these rows alone, where each row brings its labels.
                    found = [error] * len(batch)
                for at, prompt in zip(places, found, strict=True):
                    prompts[at] = prompt
        return [prompt for prompt in prompts if prompt is not None]

    def _encode_together(
        self, rows: Sequence[Row], labels: LabelSet, context_length: int
    ) -> list[ScorablePrompt | InputError]:
        """Encode rows that may get the same labels."""
        examples = self.examples(rows, labels)
        found = self._encode_with(examples, rows, labels, context_length)
        crowded = [
            at for at, each in enumerate(found) if examples[at] and _is_cut(each)
        ]
        # The text comes first: add as many examples as leave room for all of it.
        n_examples = 0
        while crowded:
            chooser = self._chooser(labels)
            tried = self._encode_with(
                [chooser.first(n_examples, examples[at]) for at in crowded],
                [rows[at] for at in crowded],
                labels,
                context_length,
            )
            by_row = dict(zip(crowded, tried, strict=True))
            fitting = [at for at, each in by_row.items() if not _is_cut(each)]
            for at in fitting if n_examples else crowded:
                found[at] = by_row[at]
            n_examples += 1
            crowded = [at for at in fitting if n_examples < len(examples[at])]
        if isinstance(labels, LevelLabels):
            return [_of_levels(each, labels) for each in found]
        if is_shortened(self.template, labels):
            return with_shortlists(
                found,
                rows,
                labels,
                lambda some, chosen: self._encode_together(
                    some, chosen, context_length
                ),
                size=self.template.shortlist or len(labels),
            )
        return found

    def _encode_with(
        self,
        examples: Sequence[Sequence[Example]],
        rows: Sequence[Row],
        labels: LabelSet,
        context_length: int,
    ) -> list[ScorablePrompt | InputError]:
        """Encode rows, each with the examples that it is shown with."""
        found: dict[int, ScorablePrompt | InputError] = {}
        for n_examples in sorted({len(each) for each in examples}):
            places = [at for at, each in enumerate(examples) if len(each) == n_examples]
            encoded = [
                _encode(
                    space,
                    [
                        with_examples(rows[at], examples[at], look.answers)
                        for at in places
                    ],
                    context_length,
                )
                for look, space in zip(
                    self._looks(labels),
                    self.spaces(labels, n_examples),
                    strict=True,
                )
            ]
            asked = zip(*encoded, strict=True)
            found |= {at: _joined(each) for at, each in zip(places, asked, strict=True)}
        return [found[at] for at in range(len(rows))]

    def examples(
        self, rows: Sequence[Row], labels: LabelSet
    ) -> list[tuple[Example, ...]]:
        """Return the examples of a table that are shown with each row."""
        if not self.template.chooses_examples:
            return [()] * len(rows)
        return self._chooser(labels).choose(rows)

    def audit(self, labels: LabelSet) -> LabelAudit:
        """Return how the label words will be read, in each form of the answer."""
        spaces = self.spaces(labels)
        if not isinstance(labels, LevelLabels):
            spaces = spaces[: 2 if self.template.answer == "both" else 1]
        audits = [each.audit() for each in spaces]
        words = tuple(word for each in audits for word in each.words)
        return replace(audits[0], words=words, examples=self.audit_examples(labels))

    def audit_examples(self, labels: LabelSet) -> ExampleAudit | None:
        """Return which rows of a table are shown as examples, if there is one."""
        template = self.template
        if not template.chooses_examples:
            return None
        chooser = self._chooser(labels)
        return ExampleAudit(
            template.examples.name,
            template.example_choice,
            chooser.n_rows,
            tuple((" ".join(row.values()), label) for row, label in chooser.usual),
        )

    def _chooser(self, labels: LabelSet) -> ExampleChooser:
        return self._choosers.get(
            labels, lambda: ExampleChooser(self.template, self.tokenizer, labels)
        )


def _encode(
    space: Space, rows: Sequence[Row], context_length: int
) -> list[ScorablePrompt | InputError]:
    try:
        return list(space.encode(rows, context_length))
    except InputError as error:
        if len(rows) == 1:
            return [error]
    # One of them cannot be encoded: find out which.
    return [_encode(space, [row], context_length)[0] for row in rows]


def _is_cut(prompt: ScorablePrompt | InputError) -> bool:
    """Return whether a prompt left no room for the whole text."""
    if isinstance(prompt, InputError):
        return isinstance(prompt, PromptTooLongError)
    return prompt.truncated


def _of_levels(
    prompt: ScorablePrompt | InputError, labels: LevelLabels
) -> ScorablePrompt | InputError:
    if isinstance(prompt, InputError):
        return prompt
    return prompt._replace(levels=labels)


def _joined(
    looks: Sequence[ScorablePrompt | InputError], *, are_prompts: bool = False
) -> ScorablePrompt | InputError:
    """Return the prompts of one text as one, or what is wrong with one of them."""
    first, *others = looks
    good = [each for each in others if not isinstance(each, InputError)]
    if isinstance(first, InputError) or len(good) < len(others):
        return next(each for each in looks if isinstance(each, InputError))
    truncated = any(each.truncated for each in (first, *good))
    first = first._replace(truncated=truncated)
    if are_prompts:
        return first._replace(ensemble=tuple(good))
    return first._replace(others=tuple(good))
