"""What is particular to the transformers engine: architectures, caches, loading."""

import copy
import logging
import re

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertForMaskedLM

from classify.engines import generate, read
from classify.engines.sharing import open_line
from classify.engines.transformers import TransformersEngine
from classify.errors import AnswerError, ConfigError, EngineError, ModelLoadError
from classify.tracking import ReadRequest, TrackedRequest
from tests.tiny_models import (
    ARCHITECTURES,
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
SLOWER = {"gpt_neo_local", "bloom_alibi", "mamba_recurrent"}


def requests_for(prompts, nodes=INNER, tree=TREE):
    return [ReadRequest(prompt, tree, nodes) for prompt in prompts]


def assert_right(engine, architecture, prompts, nodes=INNER, tree=TREE):
    reference = make_reference(architecture)
    answers = read(engine, requests_for(prompts, nodes, tree))
    for prompt, edges in zip(prompts, answers, strict=True):
        expected = reference.edges(prompt, tree, nodes)
        known = ~np.isnan(expected)
        np.testing.assert_allclose(edges[known], expected[known], **CLOSE)


def _bytes_per_token(model):
    config = model.config
    return 8 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim


# Architectures


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_reads_right(architecture):
    engine = TransformersEngine(make_model(architecture))
    assert (engine.read_mode == "tree") == (architecture not in SLOWER)
    # Below, across and beyond the sliding windows (6) and the longrope edge (16).
    prompts = [random_prompt(n, n) for n in (1, 3, 5, 6, 7, 14, 15, 29, 30, 30)]
    assert_right(engine, architecture, prompts)
    assert_right(engine, architecture, prompts[:4], (0,))
    assert_right(engine, architecture, prompts[:4], INNER[1:4])
    assert_right(engine, architecture, prompts[1:4])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_generates_right(architecture):
    reference = make_reference(architecture)
    engine = TransformersEngine(make_model(architecture))
    requests = [
        TrackedRequest(
            random_prompt(n, n),
            [4, 40],
            max_tokens=3 + n % 9,
            temperature=float(n % 2),
            n=1 + n % 2,
            seed=n,
            stop_token_ids=(),
        )
        for n in (2, 5, 13, 13)
    ]
    for request, drawn in zip(requests, generate(engine, requests), strict=True):
        for generation in drawn:
            expected = reference.tracked(
                request.prompt_token_ids, generation.token_ids, [4, 40]
            )
            for token, values in generation.tracked_logprobs.items():
                np.testing.assert_allclose(values, expected[token], **CLOSE)


def test_a_fallback_is_said_once_at_load(caplog):
    with caplog.at_level(logging.WARNING, logger="classify"):
        engine = TransformersEngine(make_model("mamba_recurrent"))
        read(engine, requests_for([random_prompt(4), random_prompt(9)]))
    [message] = caplog.messages
    nats = re.search(r"by ([0-9.e-]+) nats", message)[1]
    assert [message] == [
        (
            "MambaForCausalLM cannot use a tree mask: it has layers of kind "
            "linear_attention; with states of several texts side by side or behind a "
            f"shared beginning, its results differ by {nats} nats. Instead, each "
            "text is computed once, and its label paths are read from copies of its "
            "state, in one pass for each token: correct, but slower."
        )
    ]


def test_lengths_at_which_a_model_changes_are_found(caplog):
    engine = TransformersEngine(make_model("phi3_longrope"))
    with caplog.at_level(logging.WARNING, logger="classify"):
        assert_right(engine, "phi3_longrope", [random_prompt(9), random_prompt(20)])
        assert_right(engine, "phi3_longrope", [random_prompt(11), random_prompt(24)])
    [record] = caplog.records
    assert record.getMessage().startswith(
        "Phi3ForCausalLM computes texts of more than 16 tokens differently: "
    )
    assert engine.read_mode == "tree"


def test_a_model_that_looks_ahead_is_refused():
    config = AutoConfig.for_model(
        "bert",
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.3,
        is_decoder=False,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(
        ModelLoadError,
        match=r"^BertLMHeadModel is not a causal language model: what it predicts at a "
        r"token changes with the tokens after it \(by [0-9.]+ nats\)\. Choose a model "
        r"trained to predict the next token\.$",
    ):
        TransformersEngine(model)


def test_dropout_of_a_model_in_training_is_off():
    model = copy.deepcopy(make_model("gpt2")).train()
    engine = TransformersEngine(model)
    assert_right(engine, "gpt2", [random_prompt(8)])
    model.train()
    assert_right(engine, "gpt2", [random_prompt(9)])
    model.train()
    [[generation]] = generate(engine, [TrackedRequest(random_prompt(7), [5])])
    expected = make_reference("gpt2").tracked(random_prompt(7), (0,), [5])
    np.testing.assert_allclose(generation.tracked_logprobs[5], expected[5], **CLOSE)


def test_a_half_precision_model_is_right_up_to_its_rounding():
    model = copy.deepcopy(make_model("llama")).to(torch.bfloat16)
    engine = TransformersEngine(model)
    assert engine.read_mode == "tree"
    [edges] = read(engine, requests_for([random_prompt(12)]))
    expected = make_reference("llama").edges(random_prompt(12), TREE, INNER)
    np.testing.assert_allclose(edges, expected, atol=0.5, rtol=0)


# Batches and caches


def test_padding_changes_nothing():
    engine = TransformersEngine(make_model("llama"))
    short = random_prompt(2)
    [alone] = read(engine, requests_for([short]))
    engine = TransformersEngine(make_model("llama"))
    beside = read(engine, requests_for([random_prompt(60, 1), short]))[1]
    np.testing.assert_allclose(beside, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cache_bytes", [0, 20_000, 1 << 30])
def test_evicted_prompts_are_computed_again(cache_bytes):
    engine = TransformersEngine(
        make_model("llama"), batch_size=3, cache_bytes=cache_bytes
    )
    prompts = [random_prompt(n, n) for n in range(4, 30)]
    for nodes in ((0,), INNER[1:3], INNER[2:6], INNER):
        assert_right(engine, "llama", prompts, nodes)


def test_follow_ups_from_several_batches_go_together():
    engine = TransformersEngine(make_model("llama"))
    groups = [[random_prompt(n, 10 * n + i) for i in range(3)] for n in (4, 9, 17)]
    for group in groups:
        assert_right(engine, "llama", group, (0,))
    tickets = [
        engine.submit(request)
        for request in requests_for([p for group in groups for p in group], INNER[1:4])
    ]
    assert {ticket for ticket, _ in engine.poll()} == set(tickets)
    assert_right(engine, "llama", [group[1] for group in groups], INNER[3:])


def test_texts_that_are_finished_make_no_batch_smaller():
    model = make_model("llama")
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    n_texts, length = 96, 30  # three batches of new prompts
    n_bytes = n_texts * (length + 1) * _bytes_per_token(model)
    engine = TransformersEngine(model, cache_bytes=4 * n_bytes)

    def n_passes(seed):
        passes.clear()
        line = open_line(engine)
        prompts = [random_prompt(length, seed + n) for n in range(n_texts)]
        first = {line.submit(ReadRequest(p, TREE, (0,))): p for p in prompts}
        n_done = 0
        while n_done < 2 * n_texts:
            for done in line.poll():
                n_done += 1
                if done.ticket in first:
                    follow_up = ReadRequest(first[done.ticket], TREE, INNER[1:2])
                    line.submit(follow_up)
        return len(passes)

    n_passes(0)  # and the checks of a length that is new
    counts = [n_passes(1000 * run) for run in range(1, 5)]
    assert counts == counts[:1] * 4


@pytest.mark.parametrize("architecture", ["llama", "gemma3_window", "opt"])
def test_a_shared_prefix_changes_nothing(architecture):
    engine = TransformersEngine(make_model(architecture), batch_size=4)
    start = random_prompt(25)
    prompts = [start + random_prompt(1 + n % 5, n) for n in range(9)]
    assert_right(engine, architecture, prompts)
    # New texts behind the same prefix, root first; one is the prefix itself.
    prompts = [start + random_prompt(2 + n, 100 + n) for n in range(5)] + [start]
    assert_right(engine, architecture, prompts, (0,))
    assert_right(engine, architecture, prompts[:3], INNER[1:5])
    assert_right(engine, architecture, prompts[1:3])


def test_prompts_that_begin_one_another():
    engine = TransformersEngine(make_model("llama"))
    start = random_prompt(30)
    assert_right(engine, "llama", [start[:n] for n in (20, 24, 30)])


@pytest.mark.parametrize("batch_size", [1, 2, 7, "auto"])
def test_batch_size_changes_nothing(batch_size):
    engine = TransformersEngine(make_model("qwen2"), batch_size=batch_size)
    prompts = [random_prompt(3 + n % 11, n) for n in range(16)]
    tickets = [engine.submit(request) for request in requests_for(prompts)]
    if batch_size != "auto":
        assert len(engine.poll()) <= batch_size
        engine._own.forget()
    assert tickets == sorted(tickets)
    assert_right(engine, "qwen2", prompts)


def test_a_big_tree_is_read_in_parts():
    engine = TransformersEngine(make_model("llama"))
    engine._shared.budget.most_nodes = 3
    prompts = [random_prompt(9), random_prompt(5)]
    assert_right(engine, "llama", prompts)
    assert_right(engine, "llama", [random_prompt(11)], (0,))
    assert_right(engine, "llama", [random_prompt(11), random_prompt(7)])


def test_equal_requests_are_computed_once():
    engine = TransformersEngine(make_model("llama"), batch_size=2)
    tickets = [engine.submit(r) for r in requests_for([random_prompt(5)] * 10)]
    assert sorted(ticket for ticket, _ in engine.poll()) == tickets


def test_long_generations_outgrow_their_buffers():
    engine = TransformersEngine(make_model("llama"))
    requests = [
        TrackedRequest(
            random_prompt(n, n),
            [9],
            max_tokens=n * 20,
            stop_token_ids=(),
            seed=n,
            temperature=1.0,
        )
        for n in (2, 3, 5)
    ]
    for request, [generation] in zip(requests, generate(engine, requests), strict=True):
        assert len(generation.token_ids) == request.max_tokens
        expected = make_reference("llama").tracked(
            request.prompt_token_ids, generation.token_ids, [9]
        )
        np.testing.assert_allclose(generation.tracked_logprobs[9], expected[9], **CLOSE)


# Out of memory, failures, the end


class _Scarce:
    """A network whose device holds only so many tokens at a time."""

    def __init__(self, network, most_tokens):
        self._network = network
        self._most_tokens = most_tokens

    def __getattr__(self, name):
        return getattr(self._network, name)

    def logits(self, token_ids, **arguments):
        if token_ids.size > self._most_tokens:
            raise torch.OutOfMemoryError("no memory")
        return self._network.logits(token_ids, **arguments)


def test_batches_shrink_until_they_fit():
    engine = TransformersEngine(make_model("llama"))
    engine._shared.network = _Scarce(engine._shared.network, 60)
    assert_right(engine, "llama", [random_prompt(9, n) for n in range(8)])
    requests = [TrackedRequest(random_prompt(9, n), max_tokens=3) for n in range(20)]
    assert len(generate(engine, requests)) == 20


def test_a_text_that_never_fits_is_an_error():
    engine = TransformersEngine(make_model("llama"))
    engine._shared.network = _Scarce(engine._shared.network, 3)
    message = (
        "The device ran out of memory with a single text. Use a shorter prompt, a "
        "smaller model or dtype, or another device."
    )
    with pytest.raises(EngineError, match=f"^{re.escape(message)}$"):
        read(engine, requests_for([random_prompt(9)]))
    assert engine.poll() == []


def test_a_text_that_never_fits_leaves_the_others_alone():
    engine = TransformersEngine(make_model("llama"))
    engine._shared.network = _Scarce(engine._shared.network, 30)
    prompts = [random_prompt(each, each) for each in (9, 60, 10, 50, 11)]
    line = open_line(engine)
    reads = {line.submit(each): each for each in requests_for(prompts)}
    answers = {}
    while len(answers) < len(reads):
        answers.update(line.poll())
    line.close()
    reference = Reference(make_model("llama"))
    for ticket, request in reads.items():
        prompt = request.prompt_token_ids
        if len(prompt) > 30:
            assert isinstance(answers[ticket], AnswerError)
        else:
            expected = reference.edges(prompt, TREE, INNER)
            np.testing.assert_allclose(answers[ticket], expected, **CLOSE)
    # What follows is computed in batches as before.
    assert engine._shared.budget.most_nodes >= 512


def test_a_closed_engine_answers_no_more():
    engine = TransformersEngine(make_model("llama"))
    engine.close()
    assert repr(engine) == "TransformersEngine(closed, read_mode='tree')"
    assert engine.poll() == []
    with pytest.raises(EngineError, match=r"^This engine was closed: load it again\.$"):
        engine.submit(TrackedRequest((1,)))


@pytest.mark.parametrize("batch_size", [0, -1, "many", 2.5, True])
def test_a_batch_size_must_be_a_count(batch_size):
    message = f'batch_size must be "auto" or at least 1. Got {batch_size!r} instead.'
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        TransformersEngine(make_model("llama"), batch_size=batch_size)


# Loading


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "llama"
    copy.deepcopy(make_model("llama")).to(torch.bfloat16).save_pretrained(path)
    return path


def test_a_folder_loads_in_float32_on_a_cpu(folder):
    engine = TransformersEngine.load(folder, device="cpu")
    assert engine.vocab_size == VOCAB
    assert engine.context_length == 128
    assert engine._shared.network.dtype == torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    [edges] = read(engine, requests_for([random_prompt(12)]))
    expected = Reference(model).edges(random_prompt(12), TREE, INNER)
    np.testing.assert_allclose(edges, expected, **CLOSE)


def test_another_dtype_can_be_asked_for(folder):
    engine = TransformersEngine.load(folder, dtype="bfloat16", device="cpu")
    assert engine._shared.network.dtype == torch.bfloat16


def test_a_dtype_must_be_known(folder):
    with pytest.raises(
        ConfigError,
        match=r"^dtype must be one of auto, float32, float16, bfloat16, float64\. "
        r"Got 'int4' instead\.$",
    ):
        TransformersEngine.load(folder, dtype="int4")


def test_a_device_must_be_there(folder):
    with pytest.raises(
        ConfigError, match=r"^The device 'abacus' cannot be used here: "
    ):
        TransformersEngine.load(folder, device="abacus")


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = (
        f"There is no folder './nowhere' (looked in {tmp_path}). Give a folder with "
        "config.json and weights, or a hub id such as 'Qwen/Qwen2.5-0.5B'."
    )
    with pytest.raises(ModelLoadError, match=f"^{re.escape(message)}$"):
        TransformersEngine.load("./nowhere")


def test_a_hub_id_that_is_not_at_hand_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = (
        f"There is no model 'nobody/nothing': no such folder in {tmp_path}, not in the "
        "local hub cache, and the hub was not asked, because HF_HUB_OFFLINE is set. "
        "Check the name, or give a folder."
    )
    with pytest.raises(ModelLoadError, match=f"^{re.escape(message)}$"):
        TransformersEngine.load("nobody/nothing")


def test_a_folder_without_a_model_is_named(tmp_path):
    message = (
        f"The folder {str(tmp_path)!r} contains no model: it has no config.json. Give "
        "the folder of a saved or downloaded model."
    )
    with pytest.raises(ModelLoadError, match=f"^{re.escape(message)}$"):
        TransformersEngine.load(tmp_path)


def test_an_encoder_decoder_is_refused(tmp_path):
    AutoConfig.for_model("t5").save_pretrained(tmp_path)
    message = (
        f"The model {str(tmp_path)!r} is an encoder-decoder model (model type 't5'). "
        "This engine needs one that predicts the next token, such as Llama, Qwen or "
        "GPT-2."
    )
    with pytest.raises(ModelLoadError, match=f"^{re.escape(message)}$"):
        TransformersEngine.load(tmp_path)


def test_an_image_model_is_refused(tmp_path):
    AutoConfig.for_model("vit").save_pretrained(tmp_path)
    with pytest.raises(
        ModelLoadError, match=r"is not a causal language model \(model type 'vit'\)"
    ):
        TransformersEngine.load(tmp_path)


def test_an_encoder_is_refused(tmp_path):
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.3,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="BertLMHeadModel is not a causal"):
        TransformersEngine.load(tmp_path)


def test_missing_weights_are_not_made_up(tmp_path):
    model = copy.deepcopy(make_model("llama"))
    del model.model.layers[1].mlp.up_proj
    model.save_pretrained(tmp_path)
    message = (
        f"The model {str(tmp_path)!r} lacks weights of a causal language model "
        "(model.layers.1.mlp.up_proj.weight): they would be random. Use a checkpoint "
        "trained to predict the next token."
    )
    with pytest.raises(ModelLoadError, match=f"^{re.escape(message)}$"):
        TransformersEngine.load(tmp_path)
