"""Requests to a server, and the parts of its answers that are used.

Every request is one of ``/v1/completions`` with token ids as its prompt. Values are
looked up by token id, under the keys ``token_id:…`` of vLLM's
``return_tokens_as_token_ids``: never by their place, and one that is missing is an
error, never a number.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classify.errors import AnswerError

__all__ = [
    "IMPOSSIBLE",
    "MAX_IDS",
    "Ask",
    "Completion",
    "choice_of",
    "completion",
    "first_values",
    "free",
    "greedy",
    "next_token",
    "number",
    "prompt_values",
    "scored_prompt",
]

# vLLM's own MAX_LOGPROB_TOKEN_IDS, in all versions from 0.26 to 0.33.
MAX_IDS = 128

# Sends a request's fields, and returns the answer's one choice.
Ask = Callable[[Mapping[str, Any]], Coroutine[Any, Any, Mapping[str, Any]]]

# What JSON cannot say, minus infinity, comes as this.
IMPOSSIBLE = -9999.0

# Said in every request: a server may have other defaults from the model's own
# generation config, which change what is generated.
_PLAIN = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "max_tokens": 1,
    "ignore_eos": True,
    "return_tokens_as_token_ids": True,
}


@dataclass(frozen=True, slots=True)
class Completion:
    """The generation of a server.

    Attributes
    ----------
    token_ids : tuple of int, length n_steps
    values : list of dict of int to float
        For each step the log-probabilities of the ids asked for, in nats; no steps
        where none were.
    stopped : bool
        It ended at a stop token, the last of `token_ids`.
    """

    token_ids: tuple[int, ...]
    values: list[dict[int, float]]
    stopped: bool


def next_token(prompt: Sequence[int], ids: Sequence[int]) -> dict[str, Any]:
    """Return the fields that ask for log p(id | prompt) of at most `MAX_IDS` ids.

    Examples
    --------
    >>> next_token((5, 6), [9])["logprob_token_ids"]
    [9]
    """
    return {**_PLAIN, "prompt": list(prompt), **_tracking(ids)}


def free(
    prompt: Sequence[int],
    ids: Sequence[int],
    *,
    max_tokens: int,
    temperature: float,
    seed: int | None,
    stop_token_ids: Sequence[int] | None,
) -> dict[str, Any]:
    """Return the fields that let the model generate, and return values of `ids`.

    `stop_token_ids` None stands for the model's own, which the server knows.
    """
    stops: dict[str, Any] = {"ignore_eos": stop_token_ids is not None}
    if stop_token_ids:
        stops["stop_token_ids"] = list(stop_token_ids)
    return {
        **_PLAIN,
        "prompt": list(prompt),
        **_tracking(ids),
        **stops,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "return_token_ids": True,
    }


def greedy(
    prompt: Sequence[int],
    ids: Sequence[int],
    *,
    max_tokens: int,
    only: int | None = None,
) -> dict[str, Any]:
    """Return the fields to generate the most likely tokens, or always the given one."""
    request = free(
        prompt,
        ids,
        max_tokens=max_tokens,
        temperature=0.0,
        seed=None,
        stop_token_ids=(),
    )
    return request if only is None else {**request, "allowed_token_ids": [only]}


def scored_prompt(token_ids: Sequence[int], top: int) -> dict[str, Any]:
    """Return the fields that ask for the `top` most likely tokens before each token.

    The server computes these apart from what it generates: requests of other clients
    and speculation do not change them.
    """
    return {**_PLAIN, "prompt": list(token_ids), "prompt_logprobs": top}


def choice_of(body: Any) -> Mapping[str, Any]:
    """Return the one choice of an answer.

    Raises
    ------
    ValueError
        It is not a completion; the message continues "it answered".

    Examples
    --------
    >>> choice_of({"choices": [{"index": 0, "text": "a"}]})["text"]
    'a'
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if (
        not isinstance(choices, list)
        or len(choices) != 1
        or not isinstance(choices[0], Mapping)
    ):
        raise ValueError(f"something that is not a completion: {str(body)[:200]!r}")
    choice: Mapping[str, Any] = choices[0]
    if choice.get("index") not in (None, 0):
        raise ValueError(f"another question (index {choice['index']!r})")
    if choice.get("finish_reason") not in (None, "stop", "length"):
        raise ValueError(f"what broke off ({choice['finish_reason']!r})")
    return choice


def completion(choice: Mapping[str, Any], ids: Sequence[int]) -> Completion:
    """Return a generation, with a value of every id at every step.

    Raises
    ------
    AnswerError
        The answer lacks one.
    """
    tokens = choice.get("token_ids")
    values = _values(choice, ids) if ids else []
    if not isinstance(tokens, list) or not all(map(_is_token, tokens)):
        tokens = None
    if tokens is None or (ids and len(values) != len(tokens)):
        n_tokens = "no tokens" if tokens is None else f"{len(tokens)} tokens"
        raise AnswerError(
            f"The server answered {n_tokens} with {len(values)} steps of log-"
            "probabilities: each token needs its own."
        )
    stopped = choice.get("finish_reason") == "stop"
    return Completion(tuple(tokens), values, stopped)


def first_values(choice: Mapping[str, Any], ids: Sequence[int]) -> dict[int, float]:
    """Return the value of every id at the only step; AnswerError if one is missing."""
    steps = _values(choice, ids)
    if not steps:
        raise _without(ids[0])
    if len(steps) > 1:
        raise AnswerError(
            f"The server answered with log-probabilities of {len(steps)} steps, but 1 "
            "was asked for."
        )
    return steps[0]


def prompt_values(choice: Mapping[str, Any]) -> list[dict[int, float]]:
    """Return the values before each token of a scored prompt; {} for the first.

    Returns
    -------
    list of dict of int to float, length n_tokens
        The most likely tokens, most likely first, and the prompt's own among them.
    """
    try:
        return [
            {} if step is None else _likeliest_first(step)
            for step in choice["prompt_logprobs"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise AnswerError(
            "The server answered without the log-probabilities of the prompt that were "
            "asked for (prompt_logprobs)."
        ) from None


def _tracking(ids: Sequence[int]) -> dict[str, Any]:
    assert len(ids) <= MAX_IDS
    # `logprobs` must be set, and is ignored if there are ids.
    return {"logprobs": 1, "logprob_token_ids": list(ids)} if ids else {}


def _values(choice: Mapping[str, Any], ids: Sequence[int]) -> list[dict[int, float]]:
    logprobs = choice.get("logprobs")
    steps = logprobs.get("top_logprobs") if isinstance(logprobs, Mapping) else None
    return [
        {token: _value_of(step, token) for token in ids}
        for step in (steps if isinstance(steps, list) else ())
    ]


def _value_of(step: Any, token: int) -> float:
    key = f"token_id:{token}"
    if not isinstance(step, Mapping) or key not in step:
        raise _without(token)
    try:
        return number(step[key])
    except ValueError:
        raise AnswerError(
            f"The server answered with {step[key]!r} as the log-probability of token "
            f"{token}: it must be a number."
        ) from None


def _without(token: int) -> AnswerError:
    return AnswerError(
        f"The server answered without a log-probability of token {token}, which was "
        "asked for (logprob_token_ids)."
    )


def _likeliest_first(step: Mapping[str, Any]) -> dict[int, float]:
    values = [(int(token), number(each["logprob"])) for token, each in step.items()]
    return dict(sorted(values, key=lambda pair: (-pair[1], pair[0])))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number(value: Any) -> float:
    """Return a number of JSON; ValueError for what is none, NaN among it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError
    if value <= IMPOSSIBLE:
        return float("-inf")
    # An integer may be greater than any float.
    return float(value) if value < 1e9 else float("inf")
