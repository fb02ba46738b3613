"""From rows, and the labels that each may get, to prompts that can be scored.

A row that cannot be asked (no text, too long, unknown candidates) becomes its error,
and the others go on.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from classify.engines.turns import Shelf
from classify.errors import InputError, LabelError
from classify.labels import LabelSet
from classify.prompts import PromptTemplate
from classify.prompts.look import Look
from classify.reasoned import ReasonedSpace
from classify.tokenizer import Tokenizer
from classify.verbalizer import AnswerSpace, ScorablePrompt, Verbalizer
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
        self._spaces: Shelf[LabelSet, tuple[Space, ...]] = Shelf(_MAX_SPACES)

    def spaces(self, labels: LabelSet) -> tuple[Space, ...]:
        """Return the token paths of these labels behind each prompt; compiled once."""

        def compile_spaces() -> tuple[Space, ...]:
            return tuple(map(self._compiled, self.template.looks(labels)))

        return self._spaces.get(labels, compile_spaces)

    def _compiled(self, look: Look) -> Space:
        most = self.max_thought_tokens
        prompt = look.compile(self.tokenizer, reasons=most > 0)
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
            try:
                spaces = self.spaces(allowed)
            except InputError as error:
                # Of these rows alone, where each row brings its labels.
                for at, _ in group:
                    prompts[at] = error
                continue
            for start in range(0, len(group), _ENCODED_TOGETHER):
                batch = group[start : start + _ENCODED_TOGETHER]
                batched = [row for _, row in batch]
                encoded = [_encode(each, batched, context_length) for each in spaces]
                for (at, _), looks in zip(
                    batch, zip(*encoded, strict=True), strict=True
                ):
                    prompts[at] = _joined(looks)
        return [prompt for prompt in prompts if prompt is not None]


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


def _joined(
    looks: Sequence[ScorablePrompt | InputError],
) -> ScorablePrompt | InputError:
    """Return the prompts of one text as one, or what is wrong with one of them."""
    first, *others = looks
    good = [each for each in others if not isinstance(each, InputError)]
    if isinstance(first, InputError) or len(good) < len(others):
        return next(each for each in looks if isinstance(each, InputError))
    truncated = any(each.truncated for each in (first, *good))
    return first._replace(truncated=truncated, others=tuple(good))
