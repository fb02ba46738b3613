"""What reading labels costs on models that take no tree mask, in bare passes.

    OMP_NUM_THREADS=1 python benchmarks/hybrid.py

A bare pass is the model's own forward pass over a prompt, one text at a time, without a
cache: it scores nothing. All models are random, in float32, with the real classes of
transformers in small shapes. Labels have two tokens, and no two begin with the same.
Each round times the bare passes and the reads in turn, on one thread.
"""

import argparse
import logging
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from classify.engines import read
from classify.engines.transformers import TransformersEngine
from classify.tracking import ReadRequest, TokenTree

BASE = {
    "vocab_size": 8000,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "initializer_range": 0.05,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
}
EXPERTS = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 176,
    "shared_expert_intermediate_size": 176,
}
MODELS = {
    "Llama": ("llama", {}),
    "LFM2": ("lfm2", {"layer_types": ["conv", "conv", "full_attention", "conv"]}),
    "Qwen3-Next": ("qwen3_next", DELTA | EXPERTS),
    "Qwen3.5": ("qwen3_5_text", DELTA),
    "Granite 4 hybrid": (
        "granitemoehybrid",
        {
            "layer_types": ["mamba", "mamba", "attention", "mamba"],
            "mamba_n_heads": 8,
            "mamba_d_head": 64,
            "mamba_d_state": 64,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": 176,
            "shared_intermediate_size": 176,
        },
    ),
    "Llama 4": (
        "llama4_text",
        {
            "num_local_experts": 4,
            "intermediate_size_mlp": 704,
            "attention_chunk_size": 64,
        },
    ),
    "Jamba": (
        "jamba",
        {
            "num_experts": 4,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "use_mamba_kernels": False,
        },
    ),
    "Mamba": ("mamba", {}),
    "Mamba 2": ("mamba2", {"num_heads": 8, "head_dim": 64, "state_size": 64}),
    "BLOOM": ("bloom", {"n_layer": 4, "n_head": 4}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=103, help="of a prompt")
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", action="append", choices=MODELS, dest="models")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("classify").setLevel(logging.ERROR)
    print(
        f"{options.texts} texts of about {options.tokens} tokens, {options.labels} "
        "labels of two tokens\n\n"
        f"{'model':18}{'read as':>10}{'exact':>8}{'in two rounds':>15}"
        f"{'largest error':>15}"
    )
    for name in options.models or MODELS:
        print(f"{name:18}{measured(name, options)}", flush=True)


def measured(name: str, options: argparse.Namespace) -> str:
    """Return how a model is read, and the time of reads in that of bare passes."""
    model_type, shape = MODELS[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **BASE | shape)
    model = AutoModelForCausalLM.from_config(config).eval()
    engine = TransformersEngine(model)
    rng = np.random.default_rng(0)
    prompts = [
        tuple(rng.integers(3, BASE["vocab_size"], options.tokens + length % 9).tolist())
        for length in range(options.texts)
    ]
    tree = TokenTree([(100 + i, 1000 + i) for i in range(options.labels)])
    nodes = tuple(tree.inner_nodes.tolist())
    # Checks and first calls are not timed.
    warm = [prompt[1:] for prompt in prompts]
    answers = read(engine, [ReadRequest(prompt, tree, nodes) for prompt in warm])
    error = max(
        np.nanmax(np.abs(edges - slow(model, prompt, tree)))
        for prompt, edges in list(zip(warm, answers, strict=True))[:2]
    )
    seconds: dict[str, list[float]] = {"bare": [], "exact": [], "rounds": []}
    for _ in range(options.rounds):
        start = time.perf_counter()
        with torch.inference_mode():
            for prompt in prompts:
                model(torch.tensor([prompt]), use_cache=False)
        seconds["bare"].append(time.perf_counter() - start)
        for how, steps in (("exact", [nodes]), ("rounds", [(0,), nodes])):
            engine.free_memory()
            start = time.perf_counter()
            for step in steps:
                read(engine, [ReadRequest(prompt, tree, step) for prompt in prompts])
            seconds[how].append(time.perf_counter() - start)
    bare, exact, rounds = map(statistics.median, seconds.values())
    return (
        f"{engine.read_mode:>10}{exact / bare:8.1f}{rounds / bare:15.1f}{error:15.0e}"
    )


def slow(model, prompt: tuple[int, ...], tree: TokenTree) -> np.ndarray:
    """Return what one forward pass a node gives, without a cache."""
    edges = np.full(tree.n_nodes, np.nan)
    with torch.inference_mode():
        for node in tree.inner_nodes.tolist():
            tokens = torch.tensor([(*prompt, *tree.path(node))])
            logits = model(tokens, use_cache=False).logits[0, -1]
            logprobs = torch.log_softmax(logits.double(), -1)
            for child in tree.children(node):
                edges[child] = logprobs[tree.tokens[child]]
    return edges


if __name__ == "__main__":
    main()
