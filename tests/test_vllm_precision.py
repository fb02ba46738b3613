"""The arithmetic of vLLM: logits in float32 whatever the weights are."""

import numpy as np
import pytest
from transformers import LlamaConfig

from classify.engines import read
from classify.tracking import ReadRequest, TokenTree
from tests.vllm_engines import in_this_process

N_TEXTS = 120


def test_the_head_of_a_plain_model_is_computed_in_float32():
    starting = pytest.importorskip("classify.engines.vllm.starting")
    config = starting.with_float32_head(LlamaConfig())
    assert config.head_dtype == "float32"


def test_the_head_of_a_quantized_model_stays_as_it_is():
    starting = pytest.importorskip("classify.engines.vllm.starting")
    config = LlamaConfig(quantization_config={"quant_method": "awq"})
    assert not hasattr(starting.with_float32_head(config), "head_dtype")


@pytest.mark.slow
def test_different_texts_get_different_values_in_bfloat16(vllm_engines):
    pytest.importorskip("vllm")
    from classify.demo import model_folder
    from classify.engines.vllm.engine import VllmEngine

    vllm_engines.close()  # one engine of vLLM at a time
    options = {"dtype": "bfloat16", "max_model_len": 64, "batch_size": 16}
    with in_this_process():
        engine = VllmEngine.load(model_folder(), **options)
    try:
        described = engine.describe()
        random = np.random.default_rng(0)
        prompts = random.integers(3, engine.vocab_size, (N_TEXTS, 12)).tolist()
        tree = TokenTree([(5,), (6,)])
        edges = read(engine, [ReadRequest(prompt, tree, [0]) for prompt in prompts])
    finally:
        engine.close()
    assert described["weights"] == "bfloat16 on cpu"
    assert described["logits"] == "computed in float32"
    # Of logits alone: normalizers differ in any case. Rounded, as they are subtracted.
    differences = {round(float(each[1] - each[2]), 5) for each in edges}
    assert len(differences) == N_TEXTS
