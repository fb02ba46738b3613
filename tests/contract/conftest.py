"""The engines that the contract holds, each with a tiny model behind it.

A new engine is one more entry of `ENGINES`: a function that takes the reference and
returns the engine. Those of `tests.vllm_engines` are entries too, and one over a vLLM
server is another.
"""

import tempfile
from pathlib import Path

import pytest

from classify.engines import FakeEngine
from classify.engines.llamacpp.engine import LlamaCppEngine
from classify.engines.llamacpp.network import Model, Network
from classify.engines.server import ServerEngine
from classify.engines.transformers import TransformersEngine
from tests.serving import SmallServer, VllmServer, a_folder_with
from tests.tiny_engine import TinyEngine
from tests.tiny_gguf import write_gguf
from tests.tiny_models import make_model, make_reference
from tests.vllm_engines import TINY, TINY_ENGINES


def _fake(reference):
    return FakeEngine.from_function(
        reference.logprobs,
        reference.vocab_size,
        context_length=128,
        stop_token_ids=reference.stop_token_ids,
    )


def _tiny(reference):
    return TinyEngine(
        reference.logprobs,
        reference.vocab_size,
        context_length=128,
        stop_token_ids=reference.stop_token_ids,
    )


def _server(reference):
    server = SmallServer(
        reference.logprobs,
        reference.vocab_size,
        max_model_len=129,
        stop_token_ids=reference.stop_token_ids,
    )
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        model = a_folder_with(Path(folder), reference.vocab_size)
        return ServerEngine.load(model, url=server.url)


def _fused(_):
    with tempfile.TemporaryDirectory() as folder:
        make_model("llama").save_pretrained(folder)
        return TransformersEngine.load(folder, device="cpu")


def _llamacpp(**options):
    def make(reference):
        with tempfile.TemporaryDirectory() as folder:
            path = write_gguf(Path(folder) / "tiny.gguf", reference.model)
            return LlamaCppEngine(Network(Model(path), **options), batch_size=3)

    return make


def _transformers(architecture, **options):
    return lambda _: TransformersEngine(make_model(architecture), **options)


ENGINES = {
    # name: (architecture of the model behind it, how to make it)
    "fake": ("llama", _fake),
    "tiny": ("llama", _tiny),
    "server": ("llama", _server),
    "llamacpp": ("llama", _llamacpp()),
    "llamacpp, 7 tokens a pass": ("llama", _llamacpp(n_batch=7)),
    "transformers": ("llama", _transformers("llama")),
    "transformers, fused": ("llama", _fused),
    "transformers, 3 texts a batch": ("llama", _transformers("llama", batch_size=3)),
    "transformers, sliding window": (
        "gemma2_softcap_window",
        _transformers("gemma2_softcap_window"),
    ),
    "transformers, cached reads": ("bloom_alibi", _transformers("bloom_alibi")),
}


ARCHITECTURES = {name: architecture for name, (architecture, _) in ENGINES.items()}
ARCHITECTURES |= dict.fromkeys(TINY_ENGINES, TINY)
SERVED = "vllm, served"
ARCHITECTURES |= {SERVED: TINY}


@pytest.fixture(scope="session")
def engines():
    made = {}
    yield made
    for engine in made.values():
        engine.close()


@pytest.fixture(scope="session")
def served_engine(tmp_path_factory, vllm_forks):
    """An engine over vLLM's own server, which runs the tiny model."""
    folder = tmp_path_factory.mktemp("served")
    make_model(TINY).save_pretrained(folder)
    options = ("--skip-tokenizer-init", "--max-model-len", 128)
    with VllmServer(vllm_forks, folder, folder / "log", *options) as server:
        engine = ServerEngine.load(folder, url=server.url)
        yield engine
        engine.close()


@pytest.fixture(params=ARCHITECTURES)
def reference(request):
    return make_reference(ARCHITECTURES[request.param])


@pytest.fixture
def engine(request, reference, engines):
    name = request.node.callspec.params["reference"]
    if name == SERVED:
        return request.getfixturevalue("served_engine")
    if name in TINY_ENGINES:
        # One of them is alive at a time, so they are not kept here.
        return request.getfixturevalue("vllm_engines")(name)
    if name not in engines:
        engines[name] = ENGINES[name][1](reference)
    return engines[name]
