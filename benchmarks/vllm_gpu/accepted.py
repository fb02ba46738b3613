"""Tracked values where EAGLE's drafts are accepted, some of them, on either runner.

    VLLM_USE_V2_MODEL_RUNNER=1 python benchmarks/vllm_gpu/accepted.py

A random head is never right, so what follows an accepted draft would go unseen. Here
the model nearly is a table from each token to the next (attention and MLP add little),
and the head is that table, so that it is right as often as they do not matter.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from shapes import machine
from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, VOCAB, N_TRACKED = 256, 512, 64
CONFIG = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
# Torch has computed here before vLLM starts its processes; a fork of its threads hangs.
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
# How much attention and MLP disturb the table.
DISTURBANCE = 0.25


def table_model(folder: Path) -> Path:
    """Write a model whose likeliest next token mostly depends on the last alone."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG)).float()
    weights = model.state_dict()
    embeddings = torch.randn(VOCAB, HIDDEN)
    weights["model.embed_tokens.weight"] = embeddings
    # After token t comes the token before it in this order.
    weights["lm_head.weight"] = embeddings[torch.randperm(VOCAB)] / HIDDEN**0.5 * 0.5
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] = torch.randn_like(weights[name]) * DISTURBANCE
        elif name.endswith("_proj.weight"):
            weights[name] = torch.randn_like(weights[name]) / HIDDEN**0.5
    model.load_state_dict(weights)
    model.save_pretrained(folder)
    return folder


def table_head(folder: Path, model: Path) -> Path:
    """Write an EAGLE head that passes the embedding of the last token through."""
    config = json.loads((model / "config.json").read_text())
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(
            config | {"num_hidden_layers": 1, "architectures": ["LlamaForCausalLM"]}
        )
    )
    layer = LlamaForCausalLM(LlamaConfig(**CONFIG | {"num_hidden_layers": 1}))
    weights = {
        name.removeprefix("model."): tensor.contiguous()
        for name, tensor in layer.state_dict().items()
        if ".layers." in name and "input_layernorm" not in name
    }
    for name, tensor in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
    identity = torch.eye(HIDDEN)
    weights["fc.weight"] = torch.cat([identity, torch.zeros_like(identity)], dim=1)
    save_file(weights, folder / "model.safetensors")
    return folder


def generate(model: Path, speculation: dict[str, Any] | None) -> list[Any]:
    """Return tokens and tracked values of some prompts, alone and side by side."""
    from classify.engines.vllm import LLM, SamplingParams
    from classify.engines.vllm.speculation import speculation_figures

    on_cpu = bool(os.environ.get("CLASSIFY_BENCH_CPU"))
    llm = LLM(
        model=str(model),
        skip_tokenizer_init=True,
        dtype="float32",
        max_model_len=256,
        enforce_eager=True,
        speculative_config=speculation,
        disable_log_stats=False,
        **({} if on_cpu else {"gpu_memory_utilization": 0.3}),
    )
    random = np.random.default_rng(1)
    plain = {"max_tokens": 64, "ignore_eos": True, "detokenize": False}
    asked, prompts = [], random.integers(3, VOCAB, (48, 12)).tolist()
    for at in range(len(prompts)):
        # Neighbours that track other tokens, ask for top-k, or for nothing.
        if at % 4 == 3:
            asked.append(SamplingParams(temperature=0.0, logprobs=5, **plain))
            continue
        ids = random.integers(0, VOCAB, N_TRACKED).tolist()
        asked.append(SamplingParams(track_token_ids=ids, temperature=0.0, **plain))
    inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
    outputs = llm.generate(inputs, asked, use_tqdm=False)
    if speculation is not None:
        print(machine(llm))
        print(speculation_figures(llm.get_metrics()))
    found = [
        (list(one.token_ids), one.tracked_logprobs or {})
        for one in (output.outputs[0] for output in outputs)
    ]
    llm.llm_engine.engine_core.shutdown()
    return found


def main() -> None:
    """Print how many drafts were accepted and the greatest difference."""
    folder = Path(tempfile.mkdtemp(prefix="classify-accepted-"))
    model = table_model(folder / "model")
    head = table_head(folder / "head", model)
    plain = generate(model, None)
    eagle = {"method": "eagle", "model": str(head), "num_speculative_tokens": 3}
    drafted = generate(model, eagle)
    same = sum(a == b for (a, _), (b, _) in zip(plain, drafted, strict=True))
    worst = max(
        float(np.abs(np.array(values[token]) - other[token]).max())
        for (tokens, values), (others, other) in zip(plain, drafted, strict=True)
        if tokens == others
        for token in values
    )
    print(
        f"{same} of {len(plain)} generations have the same tokens; their tracked "
        f"values differ by at most {worst:.2g}"
    )


if __name__ == "__main__":
    main()
