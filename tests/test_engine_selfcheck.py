"""What the transformers engine finds out about a model by comparing it with itself."""

import copy
import logging
import re

import numpy as np
import pytest
import torch
import transformers

from classify import ZeroShotClassifier
from classify.demo import model_folder
from classify.engines import generate, read
from classify.engines.transformers import TransformersEngine
from classify.engines.transformers.selfcheck import widened
from classify.errors import ModelLoadError
from classify.tokenizer import load_tokenizer
from classify.tracking import ReadRequest, TrackedRequest
from tests.tiny_models import (
    Reference,
    make_model,
    make_reference,
    random_prompt,
    random_tree,
)

TREE = random_tree(n_paths=12)
INNER = tuple(TREE.inner_nodes.tolist())
CLOSE = {"atol": 3e-5, "rtol": 0.0}


def requests_for(prompts):
    return [ReadRequest(prompt, TREE, INNER) for prompt in prompts]


def assert_right(engine, architecture, prompts):
    reference = make_reference(architecture)
    answers = read(engine, requests_for(prompts))
    for prompt, edges in zip(prompts, answers, strict=True):
        np.testing.assert_allclose(edges, reference.edges(prompt, TREE, INNER), **CLOSE)


def test_what_rounding_explains_is_no_fault(caplog):
    # Plain passes of this text are 0.8 nats from what they are in float32, and the
    # tree's are within 0.6 of those.
    engine = TransformersEngine.load(model_folder(), dtype="bfloat16", device="cpu")
    tokenizer = load_tokenizer(model_folder())
    classifier = ZeroShotClassifier(["billing", "shipping"], engine=engine)
    with caplog.at_level(logging.WARNING, logger="classify.engines"):
        classifier.set_params(tokenizer=tokenizer).predict(["Where is my parcel?"])
    assert caplog.messages == []


@pytest.mark.parametrize("architecture", ["bloom_alibi", "gpt_neo_local"])
def test_rounding_does_not_hide_a_fault(architecture):
    model = copy.deepcopy(make_model(architecture)).to(torch.bfloat16)
    assert TransformersEngine(model).read_mode == "forked"


def test_a_model_in_half_precision_that_changes_with_length_is_found(caplog):
    model = copy.deepcopy(make_model("phi3_longrope")).to(torch.bfloat16)
    with caplog.at_level(logging.WARNING, logger="classify"):
        read(TransformersEngine(model), requests_for([random_prompt(40)]))
    ours = [each for each in caplog.records if each.name.startswith("classify")]
    [message] = [each.getMessage() for each in ours]
    assert message.startswith(
        "Phi3ForCausalLM computes texts of more than 16 tokens differently: "
    )


def test_a_network_is_made_wide_for_a_moment_only():
    model = copy.deepcopy(make_model("llama")).to(torch.bfloat16)
    tokens, wide = torch.tensor([random_prompt(9)]), copy.deepcopy(model).float()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    with torch.inference_mode():
        with widened(model):
            logits = model(tokens).logits
        np.testing.assert_allclose(logits, wide(tokens).logits, atol=1e-4)
        assert model(tokens).logits.dtype == torch.bfloat16
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])


class _Swallowing(torch.nn.Module):
    """A model as code of others wraps one: whatever it is given besides, it ignores."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config
        self.generation_config = model.generation_config

    def get_input_embeddings(self):
        return self.model.get_input_embeddings()

    def get_output_embeddings(self):
        return self.model.get_output_embeddings()

    def forward(self, input_ids, **kwargs):
        return self.model(input_ids=input_ids, use_cache=kwargs["use_cache"])


class _Passing(_Swallowing):
    """Another, which hands on what it is given, under whatever name."""

    def forward(self, input_ids, **kwargs):
        return self.model(input_ids=input_ids, **kwargs)


class _Windowed(_Swallowing):
    """A model that hides a window in its code, and counts slots and not positions."""

    def __init__(self, model, window):
        super().__init__(model)
        self._window = window

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        **kwargs,
    ):
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        n_queries = input_ids.shape[1]
        queries = torch.arange(past, past + n_queries)[:, None]
        slots = torch.arange(past + n_queries)
        seen = (slots <= queries) & (slots > queries - self._window)
        mask = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo().min)[
            None, None
        ]
        if attention_mask is not None:
            mask = torch.minimum(mask, attention_mask)
        return self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )


WIDE = random_tree(n_paths=40, depth=5, seed=1, n_tokens=4)


@pytest.mark.parametrize("window", [37, 50])
@pytest.mark.parametrize("lengths", [(20, 33, 70), (70, 20, 33), (44,)])
def test_a_window_over_slots_is_found_whatever_it_is_called(window, lengths):
    model = _Windowed(make_model("llama"), window)
    engine = TransformersEngine(model)
    assert engine.read_mode == "tree"
    assert_wide_is_right(engine, Reference(model), lengths)


@pytest.mark.parametrize("lengths", [(9, 20, 33, 70), (70, 20)])
def test_a_model_that_counts_slots_is_read_right(lengths):
    engine = TransformersEngine(make_model("gpt_neo_wide_local"))
    assert engine.read_mode == "tree"
    assert_wide_is_right(engine, make_reference("gpt_neo_wide_local"), lengths)


def assert_wide_is_right(engine, reference, lengths):
    inner = tuple(WIDE.inner_nodes.tolist())
    for length in lengths:
        prompt = random_prompt(length, length)
        # Root first, as when most of the labels are never read; then in one go.
        for nodes in ((0,), inner[1:9], inner, inner[-3:]):
            [edges] = read(engine, [ReadRequest(prompt, WIDE, nodes)])
            expected = reference.edges(prompt, WIDE, nodes)
            known = ~np.isnan(expected)
            np.testing.assert_allclose(edges[known], expected[known], **CLOSE)


class _Unfinished(_Swallowing):
    """A model that needs more than token ids."""

    def forward(self, input_ids, **kwargs):
        raise ValueError("inputs_embeds and shared_kv_states cannot be None.")


def test_a_model_that_is_part_of_another_is_refused():
    message = (
        "_Unfinished does not compute a text given as token ids alone: ValueError: "
        "inputs_embeds and shared_kv_states cannot be None. Its configuration may be "
        "broken, or it is part of another model. Choose a model trained to predict the "
        "next token."
    )
    with pytest.raises(ModelLoadError, match=f"^{re.escape(message)}$"):
        TransformersEngine(_Unfinished(make_model("llama")))


def test_a_swallowed_cache_is_found(caplog):
    with caplog.at_level(logging.WARNING, logger="classify"):
        engine = TransformersEngine(_Swallowing(make_model("llama")))
    assert engine.read_mode == "uncached"
    assert_right(engine, "llama", [random_prompt(8), random_prompt(20)])
    [message] = caplog.messages
    assert message.startswith("_Swallowing cannot use a tree mask: ")


@pytest.mark.parametrize("architecture", ["llama", "bloom_alibi"])
def test_a_cache_is_passed_by_the_name_of_the_version(architecture, caplog):
    # transformers 5.24 calls it otherwise, and warns of the name that it had before.
    logger = transformers.utils.logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        for model in (make_model(architecture), _Passing(make_model(architecture))):
            engine = TransformersEngine(model)
            read(engine, requests_for([random_prompt(9)]))
            generate(engine, [TrackedRequest(random_prompt(5), max_tokens=3)])
            assert engine.read_mode != "uncached"
    finally:
        logger.removeHandler(caplog.handler)
    assert [each for each in caplog.messages if "deprecated" in each] == []
