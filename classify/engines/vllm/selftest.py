"""Self-test of the installed vLLM: a few requests, compared with full values.

Released versions of vLLM have lost tracked values, given neighbours wrong ones, and
died on mixed batches. So nothing is taken on trust: every engine is asked a few
questions whose answers can be checked, before the first text.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.engines.vllm.parameters import require_vllm
from classify.errors import EngineError
from classify.wording import parameter

__all__ = ["SelfTestCase", "check_tracking", "self_test"]

_N_STEPS = 4
# A batch of another make-up rounds otherwise, in TF32 on a GPU (seen: 7e-4); a wrong
# value is off by far more.
_TOLERANCE = {"float32": 1e-2}
_COARSE_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class SelfTestCase:
    """One question and how it was answered.

    Attributes
    ----------
    name : str
    difference : float
        Greatest absolute difference from the full log-probabilities, in nats.
    problem : str
        What is wrong; empty if nothing is.
    """

    name: str
    difference: float
    problem: str


def check_tracking(llm: Any) -> None:
    """Raise EngineError unless the tracked values of a `vllm.LLM` of ours are right."""
    failed = [case for case in self_test(llm) if case.problem]
    if failed:
        version = require_vllm().__version__
        what = "; ".join(f"{case.name}: {case.problem}" for case in failed)
        raise EngineError(
            f"vLLM {version} gives wrong tracked log-probabilities here, so it is not "
            f"used. {what}. Try without speculation, another vLLM version (0.26 and "
            f"0.32 are tested), or {parameter('engine', 'transformers')}."
        )


def self_test(llm: Any) -> list[SelfTestCase]:
    """Ask the questions, alone and in mixed batches; return how they were answered."""
    config = llm.llm_engine.model_config
    vocab_size = int(config.get_vocab_size())
    prompts = _prompts(vocab_size, int(config.max_model_len))
    expected = _ask(llm, prompts, [_asking(logprobs=-1)] * len(prompts))
    tolerance = _TOLERANCE.get(
        str(config.dtype).removeprefix("torch."), _COARSE_TOLERANCE
    )
    ids = list(range(0, vocab_size, max(1, vocab_size // 200)))
    tracked = _asking(track_token_ids=ids)
    beside = _asking(track_token_ids=ids[:7], logprobs=3)
    none = _asking(track_token_ids=[])
    return [
        _case("alone", llm, prompts[:1], [tracked], expected, tolerance),
        _case(
            "in a batch with requests that ask for top logprobs, both and neither",
            llm,
            prompts,
            [tracked, _asking(logprobs=2), beside, _asking(), none],
            expected,
            tolerance,
        ),
    ]


_OPTIONS: dict[str, Any] = {
    "temperature": 0.0,
    "max_tokens": _N_STEPS,
    "ignore_eos": True,
    "detokenize": False,
}


def _asking(**options: Any) -> Any:
    from classify.engines.vllm import SamplingParams

    return SamplingParams(**_OPTIONS, **options)


def _prompts(vocab_size: int, max_length: int) -> list[list[int]]:
    # Each repeats itself, so that drafters that look runs up have something to draft.
    random = np.random.default_rng(0)
    length = max(1, min(8, (max_length - 1 - _N_STEPS) // 3))
    return [
        (random.integers(0, vocab_size, length).tolist() * 3)[: 3 * length]
        for _ in range(5)
    ]


def _ask(llm: Any, prompts: list[list[int]], parameters: list[Any]) -> list[Any]:
    inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
    outputs = llm.generate(inputs, parameters, use_tqdm=False)
    return [output.outputs[0] for output in outputs]


def _case(
    name: str,
    llm: Any,
    prompts: list[list[int]],
    parameters: list[Any],
    expected: list[Any],
    tolerance: float,
) -> SelfTestCase:
    worst = 0.0
    try:
        answers = _ask(llm, prompts, parameters)
    except EngineError as error:
        return SelfTestCase(name, float("nan"), str(error))
    for answer, right in zip(answers, expected, strict=False):
        values = _values(answer)
        if len(values) != len(answer.token_ids):
            problem = f"{len(values)} steps for {len(answer.token_ids)} tokens"
            return SelfTestCase(name, float("nan"), problem)
        for step, found in enumerate(values):
            if answer.token_ids[:step] != right.token_ids[:step]:
                break  # rounding chose another token; what follows it differs
            full = right.logprobs[step]
            for token, value in found.items():
                worst = max(worst, abs(value - full[token].logprob))
    problem = "" if worst <= tolerance else f"values are off by {worst:.3g}"
    return SelfTestCase(name, worst, problem)


def _values(answer: Any) -> list[dict[int, float]]:
    """Return the values of each step of an answer."""
    likeliest = (
        [{}] * len(answer.token_ids) if answer.logprobs is None else answer.logprobs
    )
    return [
        {token: one.logprob for token, one in step.items()}
        | {
            token: column[at]
            for token, column in (answer.tracked_logprobs or {}).items()
        }
        for at, step in enumerate(likeliest)
    ]
