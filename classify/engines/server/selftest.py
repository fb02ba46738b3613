"""Self-test of a server: a few requests, compared with separately computed values.

Released versions of vLLM lose tracked values under speculative decoding, or die of
them; other products take ``logprob_token_ids`` for a mistake and leave it out; and an
option of vLLM's turns log-probabilities into something else. So every server is asked
questions whose answers can be checked, before the first text.

The yardstick are log-probabilities of prompt tokens: the server computes them in
another way than those of generated tokens, without speculation, and requests of other
clients do not change them. Requests alone come before mixed batches: what is known to
kill a server in a mixed batch is found out, without harm, alone.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.engines.server.completions import (
    IMPOSSIBLE,
    MAX_IDS,
    Ask,
    completion,
    greedy,
    prompt_values,
    scored_prompt,
)
from classify.engines.server.reading import together, values_at
from classify.errors import EngineError

__all__ = ["SelfTestCase", "check_decimals", "check_sum", "run_cases", "self_test"]

# Of a sum in float32.
_SUM_ROUNDING = 0.01
# Nats; with five, a sum of probabilities is right to 1e-5.
_DECIMALS = 4
# Tokens generated in a row: enough for a drafter to draft, and to be found wrong.
_N_STEPS = 8
# … and by a neighbour, so that others come and go in the same batch.
_LONGER = 4 * _N_STEPS
# Most likely tokens of each step that are compared; a server gives 20 at most.
_TOP = 4
# A server does not say in which format it computes; in bfloat16, batches of another
# make-up differ by up to a tenth. A wrong value is off by far more.
_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class SelfTestCase:
    """One question and how it was answered.

    Attributes
    ----------
    name : str
    difference : float
        Greatest absolute difference from the values computed apart, in nats; NaN where
        nothing is compared.
    problem : str
        What is wrong; empty if nothing is.
    harm : str
        What others are done by it that this engine is used; empty if nothing is.
    """

    name: str
    difference: float
    problem: str
    harm: str = ""

    def said(self) -> str:
        """Return how it was answered, in words."""
        if self.problem or self.harm:
            return self.problem or self.harm
        if math.isnan(self.difference):
            return "right"
        return f"off by at most {self.difference:.1e} nats"


@dataclass(frozen=True, slots=True)
class _Question:
    """A prompt, what is generated from it, and what must be said of each step.

    Attributes
    ----------
    prompt : tuple of int
    only : int or None
        The one token that may be generated; None: all may.
    token_ids : tuple of int, length n_steps
        What is generated.
    expected : list of dict of int to float, length n_steps
        Log-probabilities at each step.
    """

    prompt: tuple[int, ...]
    only: int | None
    token_ids: tuple[int, ...]
    expected: list[dict[int, float]]

    @property
    def ids(self) -> list[int]:
        return sorted({token for step in self.expected for token in step})


async def self_test(
    ask: Ask, *, vocab_size: int, context_length: int
) -> list[SelfTestCase]:
    """Ask the questions one after another, up to the first that is answered wrong.

    Parameters
    ----------
    ask : callable
        Sends a request; should not try again for long.
    vocab_size, context_length : int

    Returns
    -------
    list of SelfTestCase
    """
    questions: list[_Question] = []
    harm: list[str] = []

    async def prepare() -> float:
        for prompt, only in _prompts(vocab_size, context_length):
            questions.append(await _question(ask, prompt, only))
        steps = [step for question in questions for step in question.expected]
        check_decimals(value for step in steps for value in step.values())
        return math.nan

    steps: Sequence[tuple[str, Callable[[], Awaitable[float]]]] = (
        ("log-probabilities of a prompt", prepare),
        ("tracked values, alone", lambda: _alone(ask, questions)),
        ("the vocabulary", lambda: _vocabulary(ask, vocab_size)),
        (
            f"tracked values of {min(MAX_IDS, vocab_size)} tokens",
            lambda: _many(ask, questions[-1], vocab_size),
        ),
        (
            "tracked values, in a batch with other requests",
            lambda: _mixed(ask, questions, harm),
        ),
    )
    return await run_cases(*steps, harm=harm)


async def run_cases(
    *steps: tuple[str, Callable[[], Awaitable[float]]], harm: Sequence[str] = ()
) -> list[SelfTestCase]:
    """Run named tests up to the first that fails.

    Parameters
    ----------
    *steps : tuple of str and callable
        What is tested, and what returns the greatest difference from what must be, NaN
        where nothing is compared, or raises EngineError.
    harm : sequence of str, default=()
        What was noticed of others meanwhile; see `SelfTestCase`.
    """
    cases = []
    for name, step in steps:
        try:
            worst, problem = await step(), ""
        except EngineError as error:
            # Of what a connection says, what happened; not what to do about it.
            worst, problem = math.nan, str(error.__cause__ or error).rstrip(".")
        if worst > _TOLERANCE:
            problem = f"they are off by {worst:.3g} nats"
        cases.append(SelfTestCase(name, worst, problem, "".join(harm)))
        if problem:
            break
    return cases


def _prompts(
    vocab_size: int, context_length: int
) -> list[tuple[tuple[int, ...], int | None]]:
    """Return prompts, and the one token that may follow each, or None."""
    # Each ends as it begins, so that drafters that look runs up have something to
    # draft; of what they draft, a token that is the only one allowed is accepted.
    draws = np.random.default_rng(0)
    length = max(1, min(6, (context_length - _LONGER) // 3))
    prompts: list[tuple[tuple[int, ...], int | None]] = []
    for forced in (True, True, False):
        start, middle = draws.integers(vocab_size, size=(2, length)).tolist()
        if forced:
            start = start[:1] * length
        prompts.append(((*start, *middle, *start), start[0] if forced else None))
    return prompts


async def _question(ask: Ask, prompt: tuple[int, ...], only: int | None) -> _Question:
    if only is None:
        choice = await ask(greedy(prompt, (), max_tokens=_N_STEPS))
        token_ids = completion(choice, ()).token_ids
    else:
        token_ids = (only,) * _N_STEPS
    whole = (*prompt, *token_ids)
    values = prompt_values(await ask(scored_prompt(whole, _TOP)))
    if len(values) != len(whole):
        raise EngineError(
            f"the server scored {len(values)} tokens of a prompt of {len(whole)}"
        )
    for step in values:
        check_sum(step.values())
    return _Question(prompt, only, token_ids, values[len(prompt) :])


def check_sum(logprobs: Iterable[float]) -> None:
    """Raise EngineError if probabilities add up to more than 1, beyond rounding."""
    total = math.fsum(math.exp(min(value, 700.0)) for value in logprobs)
    if total > 1.0 + _SUM_ROUNDING:
        raise EngineError(
            f"the probabilities of the most likely tokens add up to {total:.3g}: these "
            "are not log-probabilities"
        )


def check_decimals(logprobs: Iterable[float]) -> None:
    """Raise EngineError if all values are rounded so far that sums of them are off.

    Examples
    --------
    >>> check_decimals([-0.5, -0.25, -1.123456])
    """
    values = [value for value in logprobs if value and math.isfinite(value)]
    # A few may be round by chance.
    if len(values) > 2 and all(round(value, _DECIMALS) == value for value in values):
        raise EngineError(
            f"the log-probabilities are rounded to {_DECIMALS} decimals or fewer: they "
            "are not exact"
        )


async def _vocabulary(ask: Ask, vocab_size: int) -> float:
    """See that the last token is known, and the one after it is not."""
    await values_at(ask, [0], [vocab_size - 1])
    try:
        await values_at(ask, [0], [vocab_size])
    except EngineError:
        return math.nan
    raise EngineError(
        f"the server knows the token {vocab_size}, but the model named here has "
        f"{vocab_size} tokens, the last of which is {vocab_size - 1}: name the model "
        "that the server runs"
    )


async def _alone(ask: Ask, questions: Sequence[_Question]) -> float:
    return max([await _tracked(ask, each, each.ids) for each in questions])


async def _many(ask: Ask, question: _Question, vocab_size: int) -> float:
    others = np.linspace(0, vocab_size - 1, min(MAX_IDS, vocab_size), dtype=int)
    ids = list(dict.fromkeys([*question.ids, *others.tolist()]))[:MAX_IDS]
    return await _tracked(ask, question, ids)


async def _mixed(ask: Ask, questions: Sequence[_Question], harm: list[str]) -> float:
    first, second, third = questions
    untracked = greedy(first.prompt, (), max_tokens=_LONGER, only=first.only)
    work = [
        _neighbour(ask, untracked, harm),
        _neighbour(ask, {**untracked, "logprobs": 2}, harm),
        *(_tracked(ask, question, question.ids) for question in questions),
        _tracked(ask, second, second.ids[:2]),
        *(_first_step(ask, question) for question in (first, third)),
    ]
    return max(await together(work))


async def _neighbour(ask: Ask, fields: Mapping[str, Any], harm: list[str]) -> float:
    """Ask as another client of the server might; add to `harm` what it suffers."""
    choice = await ask(fields)
    steps = (choice.get("logprobs") or {}).get("top_logprobs") or ()
    # vLLM's V1 runner gives the sampled token and a filler then (0.26 and 0.32).
    if any(len(step) < 2 or min(step.values()) <= IMPOSSIBLE for step in steps):
        harm.append(
            "other clients get wrong values for the most likely tokens (logprobs) "
            "that they request at the same time"
        )
    return 0.0


async def _tracked(ask: Ask, question: _Question, ids: Sequence[int]) -> float:
    """Return by how much values are off, all along a generation."""
    n_steps, worst = len(question.token_ids), 0.0
    answer = completion(
        await ask(greedy(question.prompt, ids, max_tokens=n_steps, only=question.only)),
        ids,
    )
    if len(answer.token_ids) != n_steps:
        raise EngineError(
            f"the server generated {len(answer.token_ids)} tokens, not {n_steps}"
        )
    for step, expected in enumerate(question.expected):
        if answer.token_ids[:step] != question.token_ids[:step]:
            break  # rounding chose another token; what follows it differs
        worst = max(worst, _difference(answer.values[step], expected))
    return worst


async def _first_step(ask: Ask, question: _Question) -> float:
    values = await values_at(ask, question.prompt, question.ids)
    return _difference(values, question.expected[0])


def _difference(found: Mapping[int, float], expected: Mapping[int, float]) -> float:
    # Minus infinity on both sides is the same, and its difference is no number.
    return max(
        (
            abs(found[token] - value)
            for token, value in expected.items()
            if token in found and found[token] != value
        ),
        default=0.0,
    )
