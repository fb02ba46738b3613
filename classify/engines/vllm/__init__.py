"""The engine over vLLM, and vLLM's ``LLM`` and ``SamplingParams`` with tracked tokens.

vLLM is imported when one of the two is first used.
"""

from typing import Any

__all__ = ["LLM", "SamplingParams"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from classify.engines.vllm.parameters import require_vllm

    require_vllm()
    from classify.engines.vllm import llm

    return getattr(llm, name)


def __dir__() -> list[str]:
    return __all__
