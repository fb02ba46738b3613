"""The engines that the contract holds, each with a tiny model behind it.

A new engine is one more entry of `ENGINES`: a function that takes the reference and
returns the engine. Those of `tests.vllm_engines` are entries too.
"""

import pytest

from classify.engines import FakeEngine
from classify.engines.transformers import TransformersEngine
from tests.tiny_models import make_model, make_reference
from tests.vllm_engines import TINY, TINY_ENGINES


def _fake(reference):
    return FakeEngine.from_function(
        reference.logprobs,
        reference.vocab_size,
        context_length=128,
        stop_token_ids=reference.stop_token_ids,
    )


def _transformers(architecture, **options):
    return lambda _: TransformersEngine(make_model(architecture), **options)


ENGINES = {
    # name: (architecture of the model behind it, how to make it)
    "fake": ("llama", _fake),
    "transformers": ("llama", _transformers("llama")),
    "transformers, 3 texts a batch": ("llama", _transformers("llama", batch_size=3)),
    "transformers, sliding window": (
        "gemma2_softcap_window",
        _transformers("gemma2_softcap_window"),
    ),
    "transformers, cached reads": ("bloom_alibi", _transformers("bloom_alibi")),
}


ARCHITECTURES = {name: architecture for name, (architecture, _) in ENGINES.items()}
ARCHITECTURES |= dict.fromkeys(TINY_ENGINES, TINY)


@pytest.fixture(scope="session")
def engines():
    return {}


@pytest.fixture(params=ARCHITECTURES)
def reference(request):
    return make_reference(ARCHITECTURES[request.param])


@pytest.fixture
def engine(request, reference, engines):
    name = request.node.callspec.params["reference"]
    if name in TINY_ENGINES:
        # One of them is alive at a time, so they are not kept here.
        return request.getfixturevalue("vllm_engines")(name)
    if name not in engines:
        engines[name] = ENGINES[name][1](reference)
    return engines[name]
