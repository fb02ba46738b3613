"""Logits of 16-bit models: the last product is computed and kept in float32."""

import copy

import numpy as np
import pytest
import torch

from classify.engines.transformers.network import Network, float32_head
from tests.tiny_models import make_model

N_TEXTS, LENGTH = 120, 9
HALVES = [torch.bfloat16, torch.float16]


def prompts(vocab_size):
    random = np.random.default_rng(0)
    return random.integers(0, vocab_size, (N_TEXTS, LENGTH))


def sharpened(architecture, dtype):
    """A model as sure of its answers as trained ones are: logits of ten and more."""
    model = copy.deepcopy(make_model(architecture)).eval()
    head = model.get_output_embeddings()
    with torch.no_grad():
        head.weight.mul_(100)
        head.bias = torch.nn.Parameter(torch.randn(len(head.weight)))
    return model.to(dtype)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_logits_are_those_of_a_float32_head_on_the_hidden_states(architecture, dtype):
    model = sharpened(architecture, dtype)
    network = Network(model)
    tokens = prompts(network.vocab_size)
    with torch.inference_mode():
        logits, _ = network(tokens, keep=1)
        hidden = model.base_model(torch.from_numpy(tokens)).last_hidden_state[:, -1]
        head = model.get_output_embeddings()
        expected = hidden.double() @ head.weight.double().t() + head.bias.double()
        rounded = model(torch.from_numpy(tokens)).logits[:, -1]
    assert hidden.dtype == dtype
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[:, 0].double(), expected, rtol=1e-5, atol=1e-4)
    # The model itself is as it was, and its own logits lie on a grid.
    assert rounded.dtype == dtype
    assert "forward" not in vars(head)
    assert len(set(logits[:, 0, 0].tolist())) == N_TEXTS
    if dtype == torch.bfloat16:
        assert len(set(rounded[:, 0].tolist())) < N_TEXTS


def test_a_head_in_full_precision_is_left_alone():
    model = make_model("llama")
    with float32_head(model):
        assert "forward" not in vars(model.get_output_embeddings())


def test_a_head_of_another_class_is_left_alone():
    class Head(torch.nn.Linear):
        """As quantizers make them."""

    model = copy.deepcopy(make_model("llama")).to(torch.bfloat16)
    head = Head(8, 8, dtype=torch.bfloat16)
    model.set_output_embeddings(head)
    with float32_head(model):
        assert "forward" not in vars(head)


def test_the_head_is_as_before_where_the_model_fails():
    model = copy.deepcopy(make_model("llama")).to(torch.bfloat16)
    tokens = torch.tensor([[-1]])
    with pytest.raises(IndexError), float32_head(model):
        model(tokens)
    assert "forward" not in vars(model.get_output_embeddings())
