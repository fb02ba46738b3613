"""Label words as token paths *in the context of the prompt* they answer.

Words are never tokenized in isolation. Prompt and word are encoded together, and the
prompt ends where all those encodings, and the prompt's own, still agree: where the
tokenizer merges across the seam, the seam moves back (the boundary rule). If a path is
a proper prefix of another, all paths get an end token (the end rule), or "New" would
keep the mass of "New York". Where that depends on the text, see `AnswerSpace`. An
answer that stands in quotation marks, brackets or a tag ends where these are closed:
with any token that begins with what closes them, such as the one for `"}`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

from classify.errors import LabelError, PromptError, PromptTooLongError
from classify.labels import LabelSet
from classify.labels.tree import LevelLabels
from classify.parameters import BOOLEAN, Setting, check_settings, one_of
from classify.prompts import CompiledPrompt
from classify.prompts.closing import ThoughtEnd
from classify.tokenizer import Segment
from classify.tracking import common_prefix_length
from classify.trie import LabelTrie, WordPath, begin_another
from classify.verbalizer.answer_end import End, choose_end
from classify.verbalizer.audit import LabelAudit, WordAudit

__all__ = ["AnswerSpace", "ScorablePrompt", "Shortlist", "Verbalizer"]

logger = logging.getLogger(__name__)

# Texts of different endings: letters, digits, punctuation, white space, other scripts.
# If the paths are the same after all of them, they do not depend on the text.
_PROBES = ("a text", "Is it 5", "It works.", 'quoted "', "list:\n", "space ", "文本")


class ScorablePrompt(NamedTuple):
    """A prompt's token ids, what may follow it, and whether its text was cut.

    Where the model thinks first: how its thoughts end, and the most tokens of one.
    `others` are further forms of the prompt: their probabilities are averaged. So are
    the shares of their label mass that the prompts of an `ensemble` give each label.
    With `levels`, each form is about the labels below a node of their tree. With a
    `shortlist`, this prompt chooses the labels that the next one lists.
    """

    token_ids: tuple[int, ...]
    trie: LabelTrie
    truncated: bool
    thought_end: ThoughtEnd | None = None
    max_thought_tokens: int = 0
    others: tuple["ScorablePrompt", ...] = ()
    ensemble: tuple["ScorablePrompt", ...] = ()
    levels: LevelLabels | None = None
    shortlist: "Shortlist | None" = None

    @property
    def all(self) -> tuple["ScorablePrompt", ...]:
        """All prompts about the text."""
        members = (each for member in self.ensemble for each in member.all)
        return (self, *self.others, *members)

    @property
    def n_tokens(self) -> int:
        """Tokens of all prompts about the text, with an estimate of one to come."""
        to_come = 0 if self.shortlist is None else self.shortlist.n_tokens
        return sum(len(each.token_ids) for each in self.all) + to_come


@dataclass(frozen=True, eq=False)
class Shortlist:
    """How to make the prompt with the shortlist that the first prompt chooses.

    Attributes
    ----------
    size : int
        How many labels it lists.
    row : tuple of (str, str)
        The columns of the text and their values.
    listing : callable
        From the chosen labels to the prompt; raises InputError if it cannot be made.
    n_tokens : int
        Estimated length of the prompt.
    """

    size: int
    row: tuple[tuple[str, str], ...]
    listing: Callable[[LabelSet], ScorablePrompt]
    n_tokens: int


@dataclass(frozen=True)
class Verbalizer:
    """How label words become token paths.

    Parameters
    ----------
    case_variants : bool, default=False
        Also count the word in lower case, capitalised and in upper case.
    space_variants : bool, default=False
        Also count the word with and without a space before it.
    end : {"auto", "always"}, default="auto"
        When to put an end token after every path. "auto": when some path is a proper
        prefix of another.
    end_token : {"auto", "closing", "end_of_turn", "eos", "newline"}, default="auto"
        Which one; "closing" is what closes the quotation marks, brackets or tag around
        the answer. "auto": the first that exists, in this order.

    Raises
    ------
    LabelError
        A parameter has a value that is not allowed.
    """

    case_variants: Annotated[bool, Setting("", BOOLEAN)] = False
    space_variants: Annotated[bool, Setting("", BOOLEAN)] = False
    end: Annotated[Literal["auto", "always"], Setting("", one_of("auto", "always"))] = (
        "auto"
    )
    end_token: Annotated[
        Literal["auto", "closing", "end_of_turn", "eos", "newline"],
        Setting("", one_of("auto", "closing", "end_of_turn", "eos", "newline")),
    ] = "auto"

    def __post_init__(self) -> None:
        check_settings(self, "Verbalizer", LabelError)

    def compile(self, prompt: CompiledPrompt, labels: LabelSet) -> "AnswerSpace":
        """Find the token paths of all label words after this prompt.

        Raises
        ------
        LabelError
            Two labels have the same path, or the end token asked for does not exist.
        """
        return AnswerSpace(self, prompt, labels)

    def spellings(self, word: str, separator: str) -> tuple[str, ...]:
        """Return the strings that count as `word` right after the prompt."""
        words = [word]
        if self.case_variants:
            words += [word.lower(), word[0].upper() + word[1:], word.upper()]
        separators = [separator]
        if self.space_variants:
            separators += ["" if separator else " "]
        return tuple(dict.fromkeys(s + w for s in separators for w in words))


class _Joint(NamedTuple):
    """A prompt and the label words encoded together, cut where they part."""

    prompt_ids: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    n_given_up: int
    end: End | None


class AnswerSpace:
    """The token paths of label words after one compiled prompt.

    The end token is decided for all texts alike: every path gets one if, after any of
    a few texts of different endings, a path begins another. A text that alone makes a
    path begin another gets the end token after all of its own paths. Its labels are
    comparable with one another, as ever; its label mass is that of whole answers, and
    not of answers that begin with a label.

    Parameters
    ----------
    verbalizer : Verbalizer
    prompt : CompiledPrompt
    labels : LabelSet

    Attributes
    ----------
    trie : LabelTrie
        The paths after an ordinary text.
    per_text : bool
        Whether the paths depend on how a text ends, and are computed for each.
    """

    def __init__(
        self, verbalizer: Verbalizer, prompt: CompiledPrompt, labels: LabelSet
    ) -> None:
        self.verbalizer = verbalizer
        self.prompt = prompt
        self.labels = labels
        self._spelled = [
            (at, spelling)
            for at, label in enumerate(labels)
            for word in label.words
            for spelling in verbalizer.spellings(word, prompt.separator_before(word))
        ]
        self._tries = lru_cache(maxsize=64)(self._make_trie)
        # What follows the text decides the paths, unless a control token lies between.
        probes = _PROBES if prompt.tail_follows_data else _PROBES[:1]
        contexts = [self._nearest_context(probe) for probe in probes]
        self._end: End | None = (
            self._choose_end() if verbalizer.end == "always" else None
        )
        joints = [self._encode_jointly(context, self._end) for context in contexts]
        if self._end is None and any(begin_another(each.paths) for each in joints):
            self._end = self._choose_end()
            joints = [self._encode_jointly(context, self._end) for context in contexts]
        self._joint = joints[0]
        self.trie = self._tries(self._joint.paths, self._joint.end)
        self.per_text = (
            prompt.tail_follows_data
            and any(each.paths != self._joint.paths for each in joints)
        ) or any(prompt.may_merge(spelling) for _, spelling in self._spelled)
        self._warn_of_unknown()
        self._warn_of_controls()
        if self.per_text:
            logger.warning(
                "The label words merge with the end of the text, so their tokens are "
                "computed for each text, which is slow. End the prompt with fixed "
                "words, such as 'Topic:'."
            )

    @property
    def n_boundary_tokens(self) -> int:
        """How many tokens the prompt's own encoding gave up to the paths."""
        return self._joint.n_given_up

    def encode(
        self, rows: Sequence[Mapping[str, str]], context_length: int
    ) -> list[ScorablePrompt]:
        """Encode rows; each prompt ends exactly where its label paths begin.

        Parameters
        ----------
        rows : sequence of mapping
            The columns of each row, as strings.
        context_length : int
            Most tokens that the model takes, prompt and path together.

        Raises
        ------
        PromptTooLongError
            See `CompiledPrompt.encode`.
        PromptError
            A prompt has no token at all.
        """
        # Every prompt is encoded with the first word after it, so that its tokens are
        # those of the joint text. The other words share them: the probes have shown so.
        ending = self._joint.paths[0][: self._n_spelled_tokens(0)]
        encoded = self.prompt.encode(
            rows,
            suffix=self._spelled[0][1] + (self._end or End()).text,
            max_tokens=context_length - self.trie.tree.max_depth + len(ending),
        )
        prompts = []
        for row, ids, cut in zip(
            encoded.rows, encoded.token_ids, encoded.truncated, strict=True
        ):
            trie = self.trie
            if self.per_text or ids[-len(ending) :] != ending:
                joint = self._joint_of(self.prompt.render(row))
                token_ids = joint.prompt_ids
                trie = self._tries(joint.paths, joint.end)
                if len(token_ids) + trie.tree.max_depth > context_length:
                    raise PromptTooLongError(
                        f"The prompt needs {len(token_ids)} tokens and its longest "
                        f"label {trie.tree.max_depth}, but the model takes "
                        f"{context_length}: shorten the text."
                    )
            else:
                token_ids = ids[: -len(ending)]
            if not token_ids:
                raise PromptError(
                    "The prompt is empty: the template gives no token for this text. "
                    "Put fixed words before {text}."
                )
            prompts.append(ScorablePrompt(token_ids, trie, cut))
        return prompts

    def audit(self) -> LabelAudit:
        """Return a report on prompt and label tokens, for people to check."""
        tokenizer, tree = self.prompt.tokenizer, self.trie.tree
        end = self._end or End()
        bare = self._joint.paths
        if self._end is not None:
            context = self._nearest_context(_PROBES[0])
            bare = self._encode_jointly(context, None).paths
        words = [
            WordAudit(
                label=self.labels.names[at],
                word=spelling.strip(),
                token_ids=path,
                pieces=tokenizer.pieces(path),
                prefix_of=tuple(
                    other.strip()
                    for (_, other), tokens in zip(self._spelled, bare, strict=True)
                    if len(tokens) > len(start) and tokens[: len(start)] == start
                ),
            )
            for (at, spelling), path, start in zip(
                self._spelled, self._joint.paths, bare, strict=True
            )
        ]
        spelled = end.text + "".join(tokenizer.pieces(end.ids))
        slot = self.prompt.slot
        _, first = self._spelled[0]
        return LabelAudit(
            words=tuple(words),
            end=None if self._end is None else spelled,
            prompt_pieces=tokenizer.pieces(self._joint.prompt_ids[-6:]),
            prompt_text=self.prompt.written(_PROBES[0])
            + first.removesuffix(first.lstrip()),
            n_boundary_tokens=self.n_boundary_tokens,
            bos=() if self.prompt.is_chat else tokenizer.pieces(tokenizer.bos_ids),
            is_chat=self.prompt.is_chat,
            n_nodes=tree.n_nodes,
            n_inner=len(tree.inner_nodes),
            n_branching=int((tree.n_children > 1).sum()),
            max_depth=tree.max_depth,
            per_text=self.per_text,
            thinking=slot.thinking if slot else None,
            answer_end=slot.end if slot else None,
            date=self.prompt.date,
        )

    def _nearest_context(self, probe: str) -> list[Segment]:
        row = dict.fromkeys(self.prompt.fields, probe)
        return self.prompt.render_tail(row)

    def _n_spelled_tokens(self, at: int) -> int:
        return len(self._joint.paths[at]) - len(self._end.ids if self._end else ())

    def _choose_end(self) -> End:
        return choose_end(self.prompt, self.labels, self.verbalizer.end_token)

    def _joint_of(self, context: Sequence[Segment]) -> _Joint:
        joint = self._encode_jointly(context, self._end)
        if self._end is None and begin_another(joint.paths):
            return self._encode_jointly(context, self._choose_end())
        return joint

    def _encode_jointly(self, context: Sequence[Segment], end: End | None) -> _Joint:
        added = end or End()
        endings = [spelling + added.text for _, spelling in self._spelled]
        alone, *joint = self.prompt.tokenizer.encode(
            [context, *([*context, Segment(each, is_data=True)] for each in endings)],
            add_bos=not self.prompt.is_chat,
        )
        kept = common_prefix_length([alone, *joint])
        for (at, spelling), token_ids in zip(self._spelled, joint, strict=True):
            if len(token_ids) == kept:
                raise LabelError(
                    f"The word {spelling.strip()!r} of label {self.labels.names[at]!r} "
                    "has no token of its own after the prompt: the tokenizer of "
                    f"{self.prompt.tokenizer.name!r} drops its characters, or joins "
                    "them with the text's. Give the label another word."
                )
        return _Joint(
            prompt_ids=alone[:kept],
            paths=tuple((*token_ids[kept:], *added.ids) for token_ids in joint),
            n_given_up=len(alone) - kept,
            end=end,
        )

    def _make_trie(
        self, paths: tuple[tuple[int, ...], ...], end: End | None
    ) -> LabelTrie:
        words = [
            WordPath(at, spelling.strip(), ended)
            for (at, spelling), path in zip(self._spelled, paths, strict=True)
            for ended in ((path,) if end is None else end.paths(path))
        ]
        self._check_unknown(words)
        return LabelTrie(words, self.labels)

    def _check_unknown(self, words: Sequence[WordPath]) -> None:
        """Raise LabelError where unknown characters make words of two labels one."""
        tokenizer, names = self.prompt.tokenizer, self.labels.names
        owners: dict[tuple[int, ...], WordPath] = {}
        for word in words:
            other = owners.setdefault(word.token_ids, word)
            if other.label != word.label and tokenizer.unknown_id in word.token_ids:
                raise LabelError(
                    f"The word {other.word!r} of label {names[other.label]!r} and the "
                    f"word {word.word!r} of label {names[word.label]!r} have the same "
                    f"tokens: the tokenizer of {tokenizer.name!r} has none for some of "
                    f"their characters, and takes {tokenizer.unknown!r} for each of "
                    "them. Give one of the labels a word that the tokenizer can write."
                )

    def _warn_of_unknown(self) -> None:
        tokenizer = self.prompt.tokenizer
        words = [
            spelling.strip()
            for (_, spelling), path in zip(
                self._spelled, self._joint.paths, strict=True
            )
            if tokenizer.unknown_id in path
        ]
        if words:
            logger.warning(
                "The tokenizer of %r has no token for some characters of %s, and takes "
                "%r for each of them: the label has the probability of any answer with "
                "unknown characters there. Give it a word that the tokenizer can "
                "write.",
                tokenizer.name,
                ", ".join(map(repr, words)),
                tokenizer.unknown,
            )

    def _warn_of_controls(self) -> None:
        tokenizer = self.prompt.tokenizer
        words = dict.fromkeys(spelling.strip() for _, spelling in self._spelled)
        controls = [word for word in words if tokenizer.find_controls(word)]
        if controls:
            logger.warning(
                "The tokenizer of %r has control tokens in %s, but labels are read as "
                "plain text. If the model was trained to answer with these tokens, its "
                "answers do not count: save the tokenizer with special=False for them.",
                tokenizer.name,
                ", ".join(map(repr, controls)),
            )
