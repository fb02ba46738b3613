"""Models of today's families: read right, and in the way that the documents say."""

import copy
import logging
import re

import numpy as np
import pytest
import torch

from classify.engines import generate, read
from classify.engines.sharing import open_line
from classify.engines.transformers import TransformersEngine
from classify.engines.transformers.passed_checks import Check, PassedChecks
from classify.tracking import ReadRequest, TrackedRequest
from tests.model_families import FAMILIES, family_reference, make_family
from tests.tiny_models import Reference, random_prompt, random_tree

TREE = random_tree(n_paths=7)
OTHER_TREE = random_tree(n_paths=6, seed=5)
INNER = tuple(TREE.inner_nodes.tolist())
CLOSE = {"atol": 1e-4, "rtol": 0.0}
READ_AS = {
    "bamba": "forked",
    "bloom": "forked",
    "falcon_h1": "forked",
    "granite4_hybrid": "forked",
    "kimi_linear": "forked",
    "lfm2": "forked",
    "lfm2_moe": "forked",
    "mamba2": "forked",
    "nemotron_h": "forked",
    "olmo_hybrid": "forked",
    "qwen3_5": "forked",
    "qwen3_5_moe": "forked",
    "qwen3_next": "forked",
    # A pass behind their states takes a single token: nothing is shared by texts.
    "falcon_mamba": "cached",
    "jamba": "cached",
    "mamba": "cached",
    "minimax": "cached",
    # Its states are in its layers, where they cannot be copied from.
    "recurrent_gemma": "uncached",
}
# Convolutions, a delta rule, state spaces; what is not shared by texts; a cache of its
# own kind.
FORKED = ("lfm2", "qwen3_5", "granite4_hybrid", "mamba", "minimax")


def assert_right(line, name, prompts, nodes=INNER, tree=TREE):
    """Compare reads, asked for through one line, with a pass for each node."""
    tickets = {line.submit(ReadRequest(p, tree, nodes)): p for p in prompts}
    while tickets:
        for ticket, edges in line.poll():
            prompt = tickets.pop(ticket)
            expected = family_reference(name).edges(prompt, tree, nodes)
            known = ~np.isnan(expected)
            np.testing.assert_allclose(edges[known], expected[known], **CLOSE)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_read_right_and_as_documented(name):
    engine = TransformersEngine(make_family(name))
    assert engine.read_mode == READ_AS.get(name, "tree")
    assert engine.describe()["reads"].startswith(engine.read_mode)
    # Shorter and longer than windows, chunks and convolutions, two of one length.
    prompts = [random_prompt(n, n) for n in (1, 9, 40)] + [random_prompt(9)]
    assert_right(engine, name, prompts)


@pytest.mark.parametrize("name", [*FORKED, "recurrent_gemma"])
def test_nodes_may_be_read_in_any_order(name):
    line = open_line(TransformersEngine(make_family(name)))
    prompts = [random_prompt(n, n) for n in (1, 9, 20)] + [random_prompt(9)]
    for nodes in ((0,), INNER[2:4], INNER[-2:], INNER, (0,)):
        assert_right(line, name, prompts, nodes)
    # Nodes of another tree mean other tokens.
    assert_right(line, name, prompts[:2], tuple(OTHER_TREE.inner_nodes), OTHER_TREE)
    assert_right(line, name, prompts[:3])
    line.close()


@pytest.mark.parametrize("name", FORKED)
def test_what_texts_begin_with_is_computed_once(name):
    engine = TransformersEngine(make_family(name))
    start = random_prompt(20)
    prompts = [start + random_prompt(n, n) for n in (1, 2, 9)]
    assert_right(engine, name, prompts)
    assert_right(engine, name, [start, start + random_prompt(4, 4)], (0,))
    n_prefixes = len(engine._own._reader._forked_prefixes)
    assert bool(n_prefixes) == (engine.read_mode == "forked")


@pytest.mark.parametrize("name", ["lfm2", "mamba"])
@pytest.mark.parametrize(("cache_bytes", "batch_size"), [(0, 1), (20_000, 3)])
def test_states_that_were_dropped_are_computed_again(name, cache_bytes, batch_size):
    engine = TransformersEngine(
        make_family(name), cache_bytes=cache_bytes, batch_size=batch_size
    )
    prompts = [random_prompt(n, n) for n in range(6, 11)]
    for nodes in ((0,), INNER[1:3], INNER):
        assert_right(engine, name, prompts, nodes)
        assert len(engine._own._reader._kept) <= (1 if not cache_bytes else 8)


@pytest.mark.parametrize("name", ["lfm2", "granite4_hybrid", "minimax"])
def test_more_branches_than_fit_one_pass(name):
    engine = TransformersEngine(make_family(name))
    engine._shared.budget._forked_bytes = 1
    assert_right(engine, name, [random_prompt(n, n) for n in (5, 8, 8)])


@pytest.mark.parametrize("name", ["lfm2", "mamba", "recurrent_gemma"])
def test_hybrid_models_generate_right(name):
    engine = TransformersEngine(make_family(name))
    requests = [
        TrackedRequest(random_prompt(n, n), [4, 40], max_tokens=5, stop_token_ids=())
        for n in (2, 5, 13, 13)
    ]
    for request, [generation] in zip(requests, generate(engine, requests), strict=True):
        expected = family_reference(name).tracked(
            request.prompt_token_ids, generation.token_ids, [4, 40]
        )
        for token, values in generation.tracked_logprobs.items():
            np.testing.assert_allclose(values, expected[token], **CLOSE)


def test_a_way_without_a_mask_is_no_warning(caplog):
    with caplog.at_level(logging.INFO, logger="classify"):
        engine = TransformersEngine(make_family("lfm2"))
    assert [each.levelname for each in caplog.records] == ["INFO"]
    [message] = caplog.messages
    assert message == (
        "Lfm2ForCausalLM cannot use a tree mask: it has layers of kind conv. Instead, "
        "each text is computed once, and its label paths are read from copies of its "
        "state, batched with those of other texts, in one pass for each token."
    )
    assert engine.describe()["reads"] == (
        "forked: each text is computed once, and its label paths are read from copies "
        "of its state, batched with those of other texts, in one pass for each token "
        "(no tree mask: it has layers of kind conv)"
    )


class _Hidden:
    """A cache of a kind that is not known: nobody sees what it is made of."""

    __slots__ = ("cache",)

    def __init__(self, cache):
        self.cache = cache

    def __deepcopy__(self, memo):
        return _Hidden(copy.deepcopy(self.cache, memo))


class _Stacked:
    """A cache whose rows are not the first thing that its tensors are made of."""

    def __init__(self, cache):
        self.layers = cache.layers
        self.states = torch.zeros(len(cache.layers), 1, 3)
        self.cache = cache


class _Wrapping(torch.nn.Module):
    """A model that gives its cache in another form."""

    def __init__(self, model, form):
        super().__init__()
        self.model, self.config, self._form = model, model.config, form
        self.generation_config = model.generation_config

    def get_input_embeddings(self):
        return self.model.get_input_embeddings()

    def get_output_embeddings(self):
        return self.model.get_output_embeddings()

    def forward(self, input_ids, past_key_values=None, use_cache=False):
        past = None if past_key_values is None else past_key_values.cache
        output = self.model(input_ids, past_key_values=past, use_cache=use_cache)
        if use_cache:
            output.past_key_values = self._form(output.past_key_values)
        return output


@pytest.mark.parametrize("form", [_Hidden, _Stacked])
def test_a_cache_of_an_unknown_kind_is_copied_whole(form):
    engine = TransformersEngine(_Wrapping(make_family("lfm2"), form))
    assert engine.read_mode == "cached"
    prompts = [random_prompt(n, n) for n in (2, 9, 9, 21)]
    for nodes in ((0,), INNER[1:4], INNER):
        assert_right(engine, "lfm2", prompts, nodes)


def test_a_state_that_is_kept_elsewhere_is_found(caplog):
    with caplog.at_level(logging.WARNING, logger="classify"):
        TransformersEngine(make_family("recurrent_gemma"))
    [message] = caplog.messages
    assert re.fullmatch(
        r"RecurrentGemmaForCausalLM cannot use a tree mask: it .*; with states of "
        r"several texts side by side or behind a shared beginning, it fails "
        r"\(TypeError: states of an unknown kind cannot be put side by side\); with a "
        r"copied state, its results differ by [0-9.]+ nats\. Instead, every label path "
        r"is read in a forward pass of its own: correct, but much slower\.",
        message,
    )


def test_chunked_attention_is_a_mask(caplog):
    engine = TransformersEngine(make_family("llama4"))
    prompts = [random_prompt(n, n) for n in (12, 13, 15, 16, 17, 31, 40, 70)]
    with caplog.at_level(logging.WARNING, logger="classify"):
        assert_right(engine, "llama4", prompts)
    assert caplog.messages == []


def test_a_model_that_counts_chunks_in_slots_is_found_at_length():
    # Beyond this many tokens it scales attention by slot, and not by position.
    model = make_family("llama4", floor_scale=20)
    engine, reference = TransformersEngine(model), Reference(model)
    assert engine.read_mode == "tree"
    for length in (9, 24, 50):
        prompt = random_prompt(length, length)
        [edges] = read(engine, [ReadRequest(prompt, TREE, INNER)])
        np.testing.assert_allclose(edges, reference.edges(prompt, TREE, INNER), **CLOSE)


def test_a_model_that_counts_slots_is_found_for_short_texts_with_many_nodes():
    # All positions are below this, and the slots of a tree's nodes are not.
    model = make_family("llama4", floor_scale=16, attn_scale=0.5)
    engine, reference = TransformersEngine(model), Reference(model)
    prompt = random_prompt(9)
    [edges] = read(engine, [ReadRequest(prompt, TREE, INNER)])
    np.testing.assert_allclose(edges, reference.edges(prompt, TREE, INNER), **CLOSE)


def test_faster_ways_that_were_remembered_are_taken(tmp_path):
    # Of a model for which they are wrong: so it shows.
    passed = PassedChecks("kind", tmp_path / "checks.json")
    passed.add(Check("forked"))
    assert TransformersEngine(make_family("mamba"), passed=passed).read_mode == "forked"
