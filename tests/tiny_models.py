"""Tiny random networks of many architectures, and a slow reference for all of them.

Their weights are larger than usual at initialisation: with the usual ones attention
hardly matters, and a wrong mask would hide in the rounding.
"""

import functools

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from classify.tracking import TokenTree

VOCAB = 61

_LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_CONFIGS = {
    "llama": ("llama", _LLAMA),
    # vLLM's attention on a CPU takes heads of 32 and more.
    "llama_wide_heads": (
        "llama",
        _LLAMA
        | {
            "hidden_size": 64,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            # A wider network of the same spread would be far surer of its tokens.
            "initializer_range": 0.2,
        },
    ),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3_moe": (
        "qwen3_moe",
        _LLAMA
        | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "mistral_window": ("mistral", _LLAMA | {"sliding_window": 6}),
    "gemma2_softcap_window": (
        "gemma2",
        _LLAMA
        | {
            "head_dim": 8,
            "sliding_window": 6,
            "final_logit_softcapping": 3.0,
            "attn_logit_softcapping": 5.0,
            "query_pre_attn_scalar": 8,
        },
    ),
    "gemma3_window": (
        "gemma3_text",
        _LLAMA | {"head_dim": 8, "sliding_window": 6, "num_hidden_layers": 6},
    ),
    "granite_scaling": (
        "granite",
        _LLAMA | {"logits_scaling": 4.0, "residual_multiplier": 0.5},
    ),
    "phi3_longrope": (
        "phi3",
        _LLAMA
        | {
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 16,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 4,
                "long_factor": [3.0] * 4,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "gpt2": (
        "gpt2",
        {
            "vocab_size": VOCAB,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 128,
            "initializer_range": 0.3,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "gpt_neox": ("gpt_neox", _GPT | {"intermediate_size": 48}),
    "gpt_neo_local": (
        "gpt_neo",
        _GPT
        | {
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 6,
            "intermediate_size": 48,
        },
    ),
    # As in all checkpoints: the window counts slots, and no sample is as long.
    "gpt_neo_wide_local": (
        "gpt_neo",
        _GPT
        | {
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 40,
            "intermediate_size": 48,
        },
    ),
    "opt": (
        "opt",
        _GPT | {"ffn_dim": 48, "init_std": 0.3, "word_embed_proj_dim": 32},
    ),
    "bloom_alibi": (
        "bloom",
        {
            "vocab_size": VOCAB,
            "hidden_size": 32,
            "n_layer": 2,
            "n_head": 4,
            "initializer_range": 0.3,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "mamba_recurrent": (
        "mamba",
        {
            "vocab_size": VOCAB,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "state_size": 4,
            "initializer_range": 0.3,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
}
ARCHITECTURES = tuple(_CONFIGS)


@functools.cache
def make_model(architecture, seed=0):
    """Make a random network; shared by all tests, who must not change it."""
    model_type, options = _CONFIGS[architecture]
    config = AutoConfig.for_model(model_type, **options)
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).eval()


class Reference:
    """Slow and obviously right: one uncached forward pass for every prefix."""

    def __init__(self, model):
        self.model = model
        self.vocab_size = VOCAB
        self.stop_token_ids = (2,)
        self._known = {}

    def logprobs(self, token_ids):
        """log p(token | token_ids) for the whole vocabulary, shape (V,), float64."""
        token_ids = tuple(int(token) for token in token_ids)
        if token_ids not in self._known:
            with torch.no_grad():
                logits = self.model(torch.tensor([token_ids]), use_cache=False).logits
            self._known[token_ids] = (
                torch.log_softmax(logits[0, -1].float(), dim=-1).double().numpy()
            )
        return self._known[token_ids]

    def edges(self, prompt, tree, nodes):
        """What reading `nodes` must give; NaN elsewhere."""
        edges = np.full(tree.n_nodes, np.nan)
        for node in nodes:
            row = self.logprobs((*prompt, *tree.path(node)))
            for child in tree.children(node):
                edges[child] = row[tree.tokens[child]]
        return edges

    def tracked(self, prompt, token_ids, tracked):
        """For each tracked id its log-probability at every step."""
        rows = [
            self.logprobs((*prompt, *token_ids[:step]))
            for step in range(len(token_ids))
        ]
        return {token: [float(row[token]) for row in rows] for token in tracked}


@functools.cache
def make_reference(architecture):
    return Reference(make_model(architecture))


def random_prompt(length, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(3, VOCAB, length).tolist())


def random_tree(n_paths=9, depth=4, seed=0, n_tokens=5):
    """Random prefix-free paths over few tokens, so that they share and branch."""
    rng = np.random.default_rng(seed)
    end = VOCAB - 1
    return TokenTree(
        {
            (*rng.integers(5, 5 + n_tokens, rng.integers(1, depth)).tolist(), end)
            for _ in range(n_paths)
        }
    )
