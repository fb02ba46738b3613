"""Tiny random models of today's families, with the classes of transformers."""

import functools

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.tiny_models import VOCAB, Reference

_BASE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_DELTA = {
    # Wider draws, and plain passes in chunks are themselves off by 3e-4 in float32.
    "initializer_range": 0.2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
}
_MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
_CONV = ["conv", "conv", "full_attention", "conv"]
_FAMILIES = {
    # Attention that a mask can express.
    "gemma4": (
        "gemma4_text",
        {
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": 6,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCAB,
            "global_head_dim": 8,
            "num_kv_shared_layers": 2,
        },
    ),
    "gpt_oss": (
        "gpt_oss",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "mistral_small": ("mistral", {"sliding_window": None}),
    "ministral3": ("ministral3", {}),
    "deepseek_v3": (
        "deepseek_v3",
        {
            "num_key_value_heads": 4,
            "moe_intermediate_size": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "first_k_dense_replace": 1,
        },
    ),
    "phi4": ("phi3", {}),
    "granite4_dense": (
        "granitemoehybrid",
        _MAMBA2
        | {
            "layer_types": ["attention"] * 4,
            "num_local_experts": 0,
            "shared_intermediate_size": 48,
        },
    ),
    "qwen3": ("qwen3", {}),
    "qwen3_moe": ("qwen3_moe", _EXPERTS),
    "glm4_moe": (
        "glm4_moe",
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
        },
    ),
    "llama4": (
        "llama4_text",
        {
            "num_local_experts": 4,
            "intermediate_size_mlp": 48,
            "attention_chunk_size": 16,
        },
    ),
    # States that no mask can express.
    "lfm2": ("lfm2", {"layer_types": _CONV}),
    "lfm2_moe": ("lfm2_moe", _EXPERTS | {"layer_types": _CONV, "num_dense_layers": 1}),
    "qwen3_next": (
        "qwen3_next",
        _DELTA | _EXPERTS | {"shared_expert_intermediate_size": 16},
    ),
    "qwen3_5": ("qwen3_5_text", _DELTA),
    "qwen3_5_moe": (
        "qwen3_5_moe_text",
        _DELTA | _EXPERTS | {"shared_expert_intermediate_size": 16},
    ),
    "granite4_hybrid": (
        "granitemoehybrid",
        _MAMBA2
        | {
            "layer_types": ["mamba", "mamba", "attention", "mamba"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 16,
        },
    ),
    "nemotron_h": (
        "nemotron_h",
        {
            "hybrid_override_pattern": "M*M-",
            "time_step_min": 1e-9,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 2,
            "chunk_size": 8,
        },
    ),
    "falcon_h1": ("falcon_h1", _MAMBA2 | {"mamba_d_ssm": 64}),
    "bamba": ("bamba", _MAMBA2 | {"attn_layer_indices": [2]}),
    "jamba": (
        "jamba",
        {
            "num_experts": 4,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "mamba_d_state": 4,
            "use_mamba_kernels": False,
        },
    ),
    "mamba": ("mamba", {"state_size": 4}),
    "mamba2": (
        "mamba2",
        {
            "state_size": 8,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
        },
    ),
    "falcon_mamba": ("falcon_mamba", {"state_size": 4}),
    "recurrent_gemma": (
        "recurrent_gemma",
        {"attention_window_size": 8, "lru_width": 32, "num_hidden_layers": 3},
    ),
    "minimax": (
        "minimax",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "block_size": 8,
            "layer_types": ["linear_attention", "full_attention"] * 2,
        },
    ),
    "olmo_hybrid": ("olmo_hybrid", _DELTA),
    "kimi_linear": (
        "kimi_linear",
        {
            "num_key_value_heads": 4,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "linear_head_dim": 8,
            "linear_num_heads": 4,
            "layer_types": _DELTA["layer_types"],
        },
    ),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
}
FAMILIES = tuple(_FAMILIES)


@functools.cache
def make_family(name, **wider):
    """Make a random model; shared by all tests, which must not change it."""
    model_type, options = _FAMILIES[name]
    config = AutoConfig.for_model(model_type, **_BASE | options | wider)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@functools.cache
def family_reference(name):
    return Reference(make_family(name))
