"""Models of a real shape with dummy weights, and texts of random tokens."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A function of this file is sent to the workers.
os.environ.setdefault("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")

SHAPES = {
    # hidden, intermediate, layers, heads, key-value heads
    "8b": (4096, 14336, 32, 32, 8),
    "1b": (2048, 8192, 16, 32, 8),
    "tiny": (256, 512, 2, 4, 2),
}
VOCAB = 128_256


def config_of(shape: str) -> dict[str, Any]:
    """Return the configuration of a Llama of this shape."""
    hidden, intermediate, layers, heads, kv_heads = SHAPES[shape]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def model_folder(shape: str) -> str:
    """Write a configuration without weights; return its folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"classify-{shape}-"))
    (folder / "config.json").write_text(json.dumps(config_of(shape)))
    return str(folder)


def eagle_folder(shape: str) -> str:
    """Write the configuration of an EAGLE head for a shape; return its folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"classify-{shape}-eagle-"))
    (folder / "config.json").write_text(
        json.dumps(
            config_of(shape)
            | {"architectures": ["EagleLlamaForCausalLM"], "num_hidden_layers": 1}
        )
    )
    return str(folder)


def start(shape: str, **options: Any) -> Any:
    """Start vLLM with tracking on dummy weights, as the engine starts it.

    CLASSIFY_BENCH_HEAD=model: with logits in the type of the weights.
    """
    from classify.engines.vllm import LLM
    from classify.engines.vllm.starting import with_float32_head

    cpu = os.environ.get("CLASSIFY_BENCH_CPU")
    if os.environ.get("CLASSIFY_BENCH_HEAD") != "model":
        options["hf_overrides"] = with_float32_head
    llm = LLM(
        model=model_folder(shape),
        load_format="dummy",
        skip_tokenizer_init=True,
        dtype="float32" if cpu else "bfloat16",
        max_model_len=2048,
        **({"enforce_eager": True} if cpu else {"gpu_memory_utilization": 0.85}),
        **options,
    )
    llm.collective_rpc(make_steps_differ)
    return llm


def make_steps_differ(worker: Any) -> None:
    """Make the logits of dummy weights depend on the tokens, as trained ones do.

    vLLM's dummy weights, norms included, are at most a thousandth: all tokens are then
    equally likely at every step, and a wrong step's values would look right.
    """
    for name, weight in worker.model_runner.model.named_parameters():
        if name.endswith("norm.weight"):
            weight.data.fill_(1.0)
        elif name.endswith("lm_head.weight"):
            weight.data.mul_(50.0)


def random_prompts(seed: int, n: int, length: int) -> list[list[int]]:
    """Return prompts of random tokens."""
    random = np.random.default_rng(seed)
    return random.integers(1000, VOCAB - 1000, (n, length)).tolist()


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def best(work: Callable[[int], Any], rounds: int = 3) -> float:
    """Return the fewest seconds of several rounds, each with other prompts."""
    return min(timed(lambda at=at: work(at)) for at in range(rounds))


def machine(llm: Any) -> str:
    """Return device, versions, model runner and head in a line."""
    import torch
    import vllm

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    [runner, *_] = llm.collective_rpc("tracking_runner")
    head = str(llm.llm_engine.vllm_config.model_config.head_dtype)
    return (
        f"{device}, vllm {vllm.__version__}, torch {torch.__version__}, runner "
        f"{runner.upper()}, logits in {head.removeprefix('torch.')}"
    )
