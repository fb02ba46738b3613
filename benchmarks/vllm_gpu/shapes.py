"""Models of a real shape with dummy weights, and texts of random tokens.

    python benchmarks/vllm_gpu/shapes.py 8b FOLDER

writes random weights into a folder, for benchmarks whose processes must all have the
same: vLLM's dummy weights depend on how many GPUs share them.
"""

import json
import os
import shutil
import sys
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


def folder_with_tokenizer(shape: str) -> Path:
    """Return a model folder without weights, with the demo's tokenizer."""
    from classify.demo import model_folder as demo_folder

    folder = Path(model_folder(shape))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (demo_folder() / name).exists():
            shutil.copy(demo_folder() / name, folder / name)
    return folder


def write_weights(shape: str, folder: Path) -> None:
    """Write a model with random weights and the demo's tokenizer, a file a layer."""
    import torch
    from safetensors.torch import save_file

    shutil.copytree(folder_with_tokenizer(shape), folder, dirs_exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random = torch.Generator(device).manual_seed(0)
    hidden, inner, n_layers, n_heads, n_kv_heads = SHAPES[shape]
    kv = hidden // n_heads * n_kv_heads
    layer = {
        **{f"self_attn.{name}_proj": (hidden, hidden) for name in "qo"},
        **{f"self_attn.{name}_proj": (kv, hidden) for name in "kv"},
        **{f"mlp.{name}_proj": (inner, hidden) for name in ("gate", "up")},
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    files = [
        {f"model.layers.{at}.{name}": size for name, size in layer.items()}
        for at in range(n_layers)
    ]
    table = (VOCAB, hidden)
    files.append({"model.embed_tokens": table, "model.norm": (hidden,)})
    files.append({"lm_head": table})
    places = {}
    for at, sizes in enumerate(files):
        name = f"model-{at + 1:05}-of-{len(files):05}.safetensors"
        tensors = {}
        for key, size in sizes.items():
            tensor = torch.ones(size, device=device)
            if len(size) > 1:
                tensor.normal_(std=0.02, generator=random)
            tensors[f"{key}.weight"] = tensor.to("cpu", torch.bfloat16)
        save_file(tensors, folder / name)
        places |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


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


if __name__ == "__main__":
    write_weights(sys.argv[1], Path(sys.argv[2]))
