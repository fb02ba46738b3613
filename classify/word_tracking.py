"""How likely chosen words are at every step of a free generation.

There are no labels. A word's value is log p(the next token begins the word), in nats,
over the full vocabulary, before any temperature: the sum over the first tokens that the
word has after a space and without one, and over those of its further spellings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from classify.errors import AnswerError, InputError, RowError
from classify.markup import escaped, first_of, shortened
from classify.prompts import PromptTemplate
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.free import compile_free
from classify.rows.encoding import Row
from classify.rows.prompted_model import Progress, PromptedModel, Refuse
from classify.scoring.driver import drive
from classify.scoring.strategies import Strategy
from classify.scoring.text_score import TextScore
from classify.spec import Generation, ModelSpec
from classify.step_table import step_table
from classify.tokenizer import Tokenizer
from classify.tracking import TrackedGeneration, TrackedRequest
from classify.verbalizer import Verbalizer
from classify.word_tokens import TrackedWord, Words, tracked_words
from classify.wording import parameter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TrackedText", "TrackedWord", "TrackedWords", "track", "track_rows"]


class TrackedText(NamedTuple):
    """One generation.

    Attributes
    ----------
    text : str
    tokens : tuple of str, length n_steps
        The text of each generated token, the one that ends it included.
    logprobs : ndarray of float64, shape (n_steps, n_words)
        log p(the next token begins the word | prompt, earlier tokens), in nats.
    finish_reason : {"stop", "length"}
    """

    text: str
    tokens: tuple[str, ...]
    logprobs: npt.NDArray[np.float64]
    finish_reason: str


# What a notebook shows of several texts.
_MAX_SHOWN = 3
_MAX_CHARACTERS = 240


@dataclass(frozen=True, eq=False)
class TrackedWords:
    """What `track` returns.

    Attributes
    ----------
    words : tuple of TrackedWord
    generations : dict of int to tuple of TrackedText
        By position of the text, without those that have an error.
    errors : dict of int to InputError or AnswerError
        Why the others were set aside.
    truncated : tuple of int
        Positions of the texts that were cut to fit the model.
    """

    words: tuple[TrackedWord, ...]
    generations: dict[int, tuple[TrackedText, ...]]
    errors: dict[int, RowError]
    truncated: tuple[int, ...] = ()

    def __repr__(self) -> str:
        n_generations = sum(map(len, self.generations.values()))
        aside = f", {len(self.errors)} set aside" if self.errors else ""
        return (
            f"TrackedWords({len(self.words)} words in {n_generations} generations"
            f"{aside})"
        )

    def _repr_html_(self) -> str:
        names = [word.name for word in self.words]
        title = Markup("<p><strong>Text {}{}</strong>: {}</p>\n{}")
        generated = [
            title.format(
                at,
                f", generation {number}" if len(several) > 1 else "",
                escaped(shortened(one.text, _MAX_CHARACTERS)),
                step_table(one.tokens, names, one.logprobs),
            )
            for at, several in self.generations.items()
            for number, one in enumerate(several)
        ]
        aside = Markup("<p><strong>Text {}</strong>: {}</p>")
        reasons = [
            aside.format(at, escaped(str(error))) for at, error in self.errors.items()
        ]
        shown = [*generated[:_MAX_SHOWN], *reasons[:_MAX_SHOWN]]
        of_which = first_of(len(shown), len(generated) + len(reasons))
        summary = Markup("<p>{}{}</p>").format(repr(self), of_which)
        return "\n".join([*shown, summary])

    def to_frame(self) -> "pd.DataFrame":
        """Return a table with a row for each text, step and word.

        Returns
        -------
        DataFrame
            ``row`` (position of the text), ``generation`` (where there are several of
            a text), ``step`` (from 0), ``token`` (generated there), ``word`` and
            ``logprob``. A text that was set aside has one row with its ``error``, a
            column that is there only if there is such a text.
        """
        import pandas as pd

        names = [word.name for word in self.words]
        parts = [
            pd.DataFrame(
                {
                    "row": at,
                    "generation": number,
                    "step": np.repeat(np.arange(len(one.tokens)), len(names)),
                    "token": np.repeat(np.array(one.tokens, dtype=object), len(names)),
                    "word": names * len(one.tokens),
                    "logprob": one.logprobs.ravel(),
                }
            )
            for at, several in self.generations.items()
            for number, one in enumerate(several)
        ]
        errors = {at: str(error) for at, error in self.errors.items()}
        if errors:
            aside = {"row": [*errors], "error": [*errors.values()]}
            parts.append(pd.DataFrame(aside))
        columns = ["row", "generation", "step", "token", "word", "logprob"]
        if all(len(several) == 1 for several in self.generations.values()):
            columns.remove("generation")
        columns += ["error"] * bool(errors)
        if not parts:
            return pd.DataFrame(columns=columns)
        frame = pd.concat(parts, ignore_index=True)[columns]
        kinds = {name: "Int64" for name in ("generation", "step") if errors}
        kinds = {name: kind for name, kind in kinds.items() if name in columns}
        return frame.astype(kinds).sort_values("row", kind="stable", ignore_index=True)


def track(
    texts: Any,
    words: Words,
    *,
    model: str = "demo",
    prompt: PromptTemplate | str | None = None,
    max_tokens: int = 64,
    temperature: float = 0.0,
    n: int = 1,
    seed: int | None = None,
    on_error: Literal["raise", "set_aside"] = "raise",
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> TrackedWords:
    """Generate freely, and track how likely chosen words are at every step.

    Parameters
    ----------
    texts : sequence of str, Series, array or DataFrame
        Texts; or rows with the columns that the prompt needs.
    words : sequence of str, or mapping of str to str or sequence of str
        The words, or names with their spellings: ``{"yes": ["yes", "Yes"]}``.
        A word of several tokens is tracked by its first token.
    model : str, default="demo"
        A Hugging Face hub id or a local folder.
    prompt : PromptTemplate or str, default=None
        The recipe of the prompt. None or a string: its template, ``{text}`` by
        default; then a text that does not fit the model is an error.
    max_tokens : int, default=64
        Maximum number of tokens to generate.
    temperature : float, default=0.0
        0 takes the most likely token. Values are those before any temperature.
    n : int, default=1
        Generations for each text; above 1 needs a temperature.
    seed : int, default=None
        Seed of the sampling; each text is sampled independently.
    on_error : {"raise", "set_aside"}, default="raise"
        What to do with a text that cannot be used.
    tokenizer : Tokenizer, default=None
        None: the model's own.
    progress : callable, default=None
        Called with the number of texts finished since the last call.
    **options
        Further settings of `ModelSpec`, as `ZeroShotClassifier` takes them:
        ``engine``, ``dtype``, ``device``, ``speculation``, ….

    Returns
    -------
    TrackedWords

    Raises
    ------
    InputError
        Two words begin with the same token, a word has no token, or a text cannot be
        used.

    Examples
    --------
    >>> from classify import track
    >>> tracked = track(["Where is my parcel?"], ["parcel", "card"], max_tokens=2)
    >>> tracked.to_frame().columns.tolist()
    ['row', 'step', 'token', 'word', 'logprob']
    """
    from classify.rows.frames import rows_and_candidates

    if not isinstance(prompt, PromptTemplate):
        prompt = PromptTemplate(prompt or "{text}", too_long="error")
    generation = Generation(
        max_tokens=max_tokens, temperature=temperature, n=n, seed=seed
    )
    rows, _ = rows_and_candidates(texts, None, prompt.fields)
    return track_rows(
        rows,
        words,
        PromptedModel(
            template=prompt,
            verbalizer=Verbalizer(),
            spec=ModelSpec(model=model, owner="track", **options),
            tokenizer=tokenizer,
            owner="track",
        ),
        generation,
        refuse=_refuse if on_error == "raise" else None,
        progress=progress,
    )


def track_rows(
    rows: Sequence[Row | InputError],
    words: Words,
    model: PromptedModel,
    generation: Generation,
    *,
    refuse: Refuse | None = None,
    progress: Progress | None = None,
) -> TrackedWords:
    """Follow words over rows; see `track`.

    Parameters
    ----------
    rows : sequence of mapping or InputError
    words : sequence or mapping
    model : PromptedModel
    generation : Generation
    refuse : callable, default=None
        Makes the exception that a row with an error raises. None: it is set aside.
    progress : callable, default=None
    """
    tokenizer = model.load_tokenizer()
    tracked = tracked_words(words, tokenizer)
    prompt = compile_free(model.template, tokenizer)
    errors: dict[int, RowError] = {}
    generations: dict[int, tuple[TrackedText, ...]] = {}

    def set_aside(at: int, error: RowError) -> None:
        if refuse is not None:
            raise refuse(at, error) from error
        errors[at] = error

    engine = model.load_engine()
    room = engine.context_length - generation.max_tokens + 1
    if room < 1:
        raise InputError(
            f"{parameter('max_tokens', generation.max_tokens)} is more than the "
            f"{engine.context_length} tokens that the model takes: use a smaller value."
        )
    requests: dict[int, TrackedRequest] = {}
    truncated = []
    for at, row in enumerate(rows):
        encoded = _encoded(prompt, row, room)
        if isinstance(encoded, InputError):
            set_aside(at, encoded)
            continue
        token_ids, is_cut = encoded
        truncated += [at] * is_cut
        seed = generation.seed
        requests[at] = TrackedRequest(
            token_ids,
            [token for word in tracked for token in word.token_ids],
            max_tokens=generation.max_tokens,
            temperature=generation.temperature,
            n=generation.n,
            # The generations of a text use consecutive seeds.
            seed=None if seed is None else seed + at * generation.n,
        )
    if errors and progress is not None:
        progress(len(errors))
    places = [*requests]
    for which, answer in drive(map(_asking, requests.values()), engine):
        at = places[which]
        if isinstance(answer, InputError | AnswerError):
            set_aside(at, answer)
        else:
            several = cast("tuple[TrackedGeneration, ...]", answer)
            generations[at] = tuple(
                _tracked_text(one, tracked, tokenizer) for one in several
            )
        if progress is not None:
            progress(1)
    return TrackedWords(
        tracked,
        dict(sorted(generations.items())),
        dict(sorted(errors.items())),
        tuple(at for at in truncated if at in generations),
    )


def _refuse(at: int, error: RowError) -> Exception:
    return type(error)(
        f"Text {at}: {error} Pass on_error='set_aside' to continue with the other "
        "texts."
    )


def _asking(request: TrackedRequest) -> Strategy:
    """Ask one thing, and return the answer."""
    # The driver hands on whatever a strategy returns.
    answer: Any = yield request
    return cast("TextScore", answer)


def _encoded(
    prompt: CompiledPrompt, row: Row | InputError, room: int
) -> tuple[tuple[int, ...], bool] | InputError:
    """Return the tokens of a row's prompt and whether it was cut, or its error."""
    if isinstance(row, InputError):
        return row
    try:
        encoded = prompt.encode([row], suffix="", max_tokens=room)
    except InputError as error:
        return error
    return encoded.token_ids[0], encoded.truncated[0]


def _tracked_text(
    generation: TrackedGeneration, words: Sequence[TrackedWord], tokenizer: Tokenizer
) -> TrackedText:
    columns = generation.tracked_logprobs
    assert columns is not None, "tracked"
    values = [
        np.logaddexp.reduce([columns[token] for token in word.token_ids], axis=0)
        for word in words
    ]
    return TrackedText(
        text=tokenizer.decode(generation.token_ids),
        tokens=tokenizer.pieces(generation.token_ids),
        logprobs=np.array(values).T,
        finish_reason=generation.finish_reason,
    )
