"""The engine over vLLM, and tracked log-probabilities for anyone's own ``LLM``."""

from classify.engines.vllm.parameters import (
    install_tracking,
    top_logprobs,
    tracked_llm,
    tracked_logprobs,
    tracked_sampling_params,
)

__all__ = [
    "install_tracking",
    "top_logprobs",
    "tracked_llm",
    "tracked_logprobs",
    "tracked_sampling_params",
]
