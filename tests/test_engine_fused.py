"""The fused forward pass: the same numbers as the network's own, or given up."""

import copy
import logging

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from classify.engines import generate, read
from classify.engines.transformers import TransformersEngine
from classify.engines.transformers.fused import FusedDecoder
from classify.engines.transformers.packing import (
    Packed,
    PackedHead,
    can_pack,
    pack_weights,
)
from classify.tracking import ReadRequest, TrackedRequest
from tests.tiny_models import (
    VOCAB,
    Reference,
    make_model,
    make_reference,
    random_prompt,
    random_tree,
)

TREE = random_tree(n_paths=12)
INNER = tuple(TREE.inner_nodes.tolist())
CLOSE = {"atol": 3e-5, "rtol": 0.0}
LLAMA = make_model("llama").config.to_dict()
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
FUSED = {
    # name: (type of model, settings beside those of the tiny Llama)
    "llama": ("llama", {}),
    "every head its own keys": ("llama", {"num_key_value_heads": 4}),
    "one head of keys": ("llama", {"num_key_value_heads": 1}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "one layer, tied": ("llama", {"num_hidden_layers": 1, "tie_word_embeddings": True}),
    "wide heads": ("llama", {"head_dim": 16}),
    "yarn": (
        "llama",
        {"rope_parameters": YARN | {"original_max_position_embeddings": 16}},
    ),
    "llama3": (
        "llama",
        {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 16}},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 8}),
}
NOT_FUSED = {
    "a window": ("mistral", {"sliding_window": 6}),
    "another activation": ("llama", {"hidden_act": "gelu"}),
    "positions that depend on the length": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "dynamic",
                "rope_theta": 1e4,
                "factor": 2.0,
            }
        },
    ),
}
OF_OTHER_KINDS = ("gpt2", "granite_scaling", "gemma2_softcap_window", "qwen3_moe")


def model_of(kind, settings):
    """A random network; norms and biases too, which begin as ones and zeros."""
    known = {k: v for k, v in LLAMA.items() if k not in ("model_type", "architectures")}
    del known["head_dim"], known["rope_parameters"]
    config = AutoConfig.for_model(kind, **(known | settings))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weights.add_(torch.randn_like(weights) * 0.3)
    return model


def loaded(model, tmp_path, **options):
    model.save_pretrained(tmp_path)
    return TransformersEngine.load(tmp_path, device="cpu", **options)


def is_fused(engine):
    return engine._shared.network.fused is not None


def assert_reads_right(engine, reference, prompts, nodes=INNER):
    answers = read(engine, [ReadRequest(prompt, TREE, nodes) for prompt in prompts])
    for prompt, edges in zip(prompts, answers, strict=True):
        expected = reference.edges(prompt, TREE, nodes)
        known = ~np.isnan(expected)
        np.testing.assert_allclose(edges[known], expected[known], **CLOSE)


@pytest.mark.parametrize("name", FUSED)
def test_it_reads_what_the_network_reads(name, tmp_path):
    model = model_of(*FUSED[name])
    engine, reference = loaded(model, tmp_path), Reference(model)
    assert is_fused(engine)
    # Of one length, without padding; of several; roots first; then what follows.
    assert_reads_right(engine, reference, [random_prompt(9, n) for n in range(3)], (0,))
    prompts = [random_prompt(n, n) for n in (1, 2, 7, 30, 60)]
    assert_reads_right(engine, reference, prompts)
    prompts = [random_prompt(n, 100 + n) for n in (4, 5, 25)]
    for nodes in ((0,), INNER[1:3], INNER):
        assert_reads_right(engine, reference, prompts, nodes)
    # Behind a start in common.
    start = random_prompt(20)
    prompts = [(*start, *random_prompt(n, n)) for n in (1, 4, 9)]
    assert_reads_right(engine, reference, prompts, (0,))
    assert_reads_right(engine, reference, prompts)
    assert is_fused(engine)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_it_generates_what_the_network_generates(name, tmp_path):
    model = model_of(*FUSED[name])
    engine, reference = loaded(model, tmp_path), Reference(model)
    requests = [
        TrackedRequest(random_prompt(n, n), track_token_ids=(3, 40), max_tokens=n)
        for n in (2, 5, 9)
    ]
    for request, [found] in zip(requests, generate(engine, requests), strict=True):
        expected = reference.tracked(
            request.prompt_token_ids, found.token_ids, request.track_token_ids
        )
        for token, values in expected.items():
            np.testing.assert_allclose(found.tracked_logprobs[token], values, **CLOSE)


@pytest.mark.parametrize(
    "lengths", [(130, 130), (64, 65), (30, 200), (1100, 1100), (300, 1100)]
)
def test_attention_is_computed_in_blocks(lengths, tmp_path):
    model = model_of("llama", {"max_position_embeddings": 2048})
    engine, reference = loaded(model, tmp_path), Reference(model)
    prompts = [random_prompt(n, at) for at, n in enumerate(lengths)]
    assert_reads_right(engine, reference, prompts, (0,))
    assert_reads_right(engine, reference, prompts, INNER[:3])
    # As branches of one trunk.
    branches = [(*prompts[-1], *random_prompt(n, n)) for n in (3, 40)]
    assert_reads_right(engine, reference, branches, (0,))
    assert_reads_right(engine, reference, branches, INNER[:3])
    assert is_fused(engine)


def test_slots_at_the_end_that_nobody_sees():
    model = copy.deepcopy(model_of("llama", {"max_position_embeddings": 2048}))
    n_tokens, width = 1000, 1100
    token_ids = torch.tensor([random_prompt(n_tokens)])
    with torch.no_grad():
        expected = model(token_ids).logits[:, -1]
    visible = torch.ones(width, width, dtype=torch.bool).tril()
    visible[:, n_tokens:] = False
    real = (np.arange(width) < n_tokens)[None]
    found = FusedDecoder.of(model)(
        np.pad(token_ids.numpy(), ((0, 0), (0, width - n_tokens))),
        positions=np.arange(width)[None],
        real=real,
        wanted=real & (np.arange(width) == n_tokens - 1),
        mask=torch.zeros(width, width).masked_fill(~visible, -torch.inf)[None, None],
        cache=None,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NOT_FUSED)
def test_what_it_would_leave_out_is_left_to_the_network(name, tmp_path):
    assert not is_fused(loaded(model_of(*NOT_FUSED[name]), tmp_path))


@pytest.mark.parametrize("architecture", OF_OTHER_KINDS)
def test_other_kinds_of_network_are_left_alone(architecture, tmp_path):
    assert not is_fused(loaded(make_model(architecture), tmp_path))


def test_float32_on_a_cpu_only(tmp_path):
    assert not is_fused(loaded(make_model("llama"), tmp_path, dtype="bfloat16"))


def test_a_model_of_somebody_else_is_left_alone():
    assert not is_fused(TransformersEngine(make_model("llama")))


def test_adapters_are_left_to_the_network():
    class Adapted(torch.nn.Linear):
        pass

    model = copy.deepcopy(make_model("llama"))
    assert FusedDecoder.of(model) is not None
    model.model.layers[1].mlp.up_proj.__class__ = Adapted
    assert FusedDecoder.of(model) is None


def given_up(caplog):
    return [
        record.getMessage().partition(", its")[0]
        for record in caplog.records
        if "forward pass" in record.getMessage()
    ]


def test_one_that_is_wrong_is_given_up(caplog):
    model = copy.deepcopy(make_model("llama"))
    wrong = FusedDecoder.of(model)
    wrong._eps = 0.5
    with caplog.at_level(logging.INFO, logger="classify"):
        engine = TransformersEngine(model, fused=wrong)
    said = "LlamaForCausalLM is read with its own forward pass: with ours"
    assert given_up(caplog) == [said]
    assert not is_fused(engine)
    assert engine.read_mode == "tree"
    assert_reads_right(engine, make_reference("llama"), [random_prompt(9)])


class WrongBeyond:
    """Right up to a length."""

    def __init__(self, fused, length):
        self._fused, self._length = fused, length

    def __call__(self, token_ids, *, positions, **arguments):
        logits = self._fused(token_ids, positions=positions, **arguments)
        return logits.sin() if positions.max() >= self._length else logits


def test_one_that_is_wrong_on_long_texts_is_given_up_there(caplog):
    model = copy.deepcopy(make_model("llama"))
    fused = WrongBeyond(FusedDecoder.of(model), 40)
    engine = TransformersEngine(model, fused=fused)
    assert_reads_right(engine, make_reference("llama"), [random_prompt(20)])
    assert is_fused(engine)
    with caplog.at_level(logging.INFO, logger="classify"):
        assert_reads_right(engine, make_reference("llama"), [random_prompt(70)])
    assert len(given_up(caplog)) == 1
    assert not is_fused(engine)
    assert engine.read_mode == "tree"


# Packed weights


def test_packed_products_and_what_follows_in_one_go():
    torch.manual_seed(0)
    one, two = torch.nn.Linear(24, 10), torch.nn.Linear(24, 6, bias=False)
    scale, x, other = torch.rand(24), torch.randn(5, 24), torch.randn(5, 16)
    packed = Packed.of(one, two, scale=scale, factor=0.5)
    with torch.inference_mode():
        expected = 0.5 * torch.cat([one(x * scale), two(x * scale)], dim=1)
        for found, right in [
            (packed(x), expected),
            (packed.swish(x), expected * expected.sigmoid()),
            (packed.plus(x, other), expected + other),
            (packed.times(x, other), expected * other),
        ]:
            torch.testing.assert_close(found, right, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_inputs", [1, 3, 24, 26])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_head_is_added_up_from_parts(n_inputs, bias):
    torch.manual_seed(0)
    layer = torch.nn.Linear(n_inputs, 50, bias=bias)
    scale, x = torch.rand(n_inputs), torch.randn(5, n_inputs)
    with torch.inference_mode():
        found = PackedHead.of(layer, scale=scale)(x)
        torch.testing.assert_close(found, layer(x * scale), rtol=0, atol=1e-5)


def test_packed_layers_compute_the_same():
    model = copy.deepcopy(make_model("gemma3_window"))
    token_ids = torch.tensor([random_prompt(9)])
    with torch.inference_mode():
        before = model(token_ids).logits
        assert pack_weights(model) > 0
        torch.testing.assert_close(model(token_ids).logits, before, rtol=0, atol=1e-4)
    assert before.shape[-1] == VOCAB


def test_half_precision_is_not_packed():
    assert not can_pack(copy.deepcopy(make_model("llama")).bfloat16())
