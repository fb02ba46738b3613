"""Facts about the model that a started vLLM runs."""

from typing import Any

from classify.engines.vllm.speculation import method_of

__all__ = ["described", "kv_tokens", "prefix_cache", "stop_token_ids"]

# Of models with full attention only, blocks have 16 tokens, or 128 on a CPU.
_LONG_BLOCK = 256


def described(llm: Any) -> dict[str, str]:
    """Return a description of what a `classify.engines.vllm.LLM` runs, by name."""
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
        "prefix cache": prefix_cache(config.cache_config),
        "speculation": _speculation(config.speculative_config),
    }


def prefix_cache(cache: Any) -> str:
    """Return how much of a text is cached for further requests, in words.

    Of models with recurrent layers, states are kept at the ends of long blocks only.
    """
    advice = "a tolerance above 0, which needs few reads, saves most here"
    if not cache.enable_prefix_caching:
        return (
            "off: each further read of a text computes the whole text again, so "
            f"{advice}"
        )
    n_tokens = max(cache.block_size, cache.mamba_block_size or 0)
    says = f"blocks of {n_tokens:,} tokens"
    if n_tokens < _LONG_BLOCK:
        return says
    return f"{says}: a further read of a text computes up to as many again, so {advice}"


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
