"""What a started vLLM says of the model that it runs."""

from typing import Any

from classify.engines.vllm.speculation import method_of

__all__ = ["described", "kv_tokens", "stop_token_ids"]


def described(llm: Any) -> dict[str, str]:
    """Return what a `classify.engines.vllm.LLM` runs, in words, by name."""
    config = llm.llm_engine.vllm_config
    model = config.model_config
    [runner, *_] = llm.collective_rpc("tracking_runner")
    dtype = str(model.dtype).removeprefix("torch.")
    head = str(model.head_dtype).removeprefix("torch.")
    return {
        "model": str(model.model),
        "weights": f"{dtype} on {config.device_config.device_type}",
        "logits": f"computed in {head}",
        "runner": f"vLLM's {runner.upper()}",
        "context": f"{int(model.max_model_len) - 1:,} tokens",
        "keys and values": f"room for {kv_tokens(config):,} tokens",
        "speculation": _speculation(config.speculative_config),
    }


def stop_token_ids(model_config: Any) -> tuple[int, ...]:
    """Return the tokens with which a model ends what it says."""
    generation = model_config.try_get_generation_config()
    ends = generation.get("eos_token_id")
    if ends is None:
        ends = getattr(model_config.hf_config, "eos_token_id", None)
    if ends is None:
        return ()
    return tuple(ends) if isinstance(ends, list | tuple) else (int(ends),)


def kv_tokens(config: Any) -> int:
    """Return for how many tokens keys and values fit into memory."""
    blocks = config.cache_config.num_gpu_blocks
    if not blocks:
        # Not told: what fits at the very least, one request of full length each.
        return int(config.model_config.max_model_len)
    return int(blocks) * int(config.cache_config.block_size)


def _speculation(config: Any) -> str:
    if config is None:
        return "none"
    n_tokens = config.num_speculative_tokens
    return f"{method_of(config)}, {n_tokens} token{'s' * (n_tokens != 1)} a draft"
