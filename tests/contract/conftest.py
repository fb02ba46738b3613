"""The engines that the contract holds, all with the same tiny model behind them.

A new engine is one more entry of `ENGINES`: a function that takes the reference and
returns the engine.
"""

import pytest

from classify.engines import FakeEngine
from classify.engines.transformers import TransformersEngine
from tests.tiny_models import make_model, make_reference


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


@pytest.fixture(scope="session")
def engines():
    return {}


@pytest.fixture(params=ENGINES)
def reference(request):
    return make_reference(ENGINES[request.param][0])


@pytest.fixture
def engine(request, reference, engines):
    name = request.node.callspec.params["reference"]
    if name not in engines:
        engines[name] = ENGINES[name][1](reference)
    return engines[name]
