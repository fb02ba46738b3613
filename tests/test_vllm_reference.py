"""The examples of the documents that specify tracked tokens and token prompts.

They are written for an 8B model and a GPU; here they run with the demo model on a CPU,
where nothing of interest is said, but every number can be checked.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from classify.demo import model_folder
from classify.engines.vllm import (
    top_logprobs,
    tracked_logprobs,
    tracked_sampling_params,
)
from tests.vllm_engines import WITH_PROCESSES


def on(*names):
    return pytest.mark.parametrize("vllm_engine", names, indirect=True)


@pytest.fixture
def llm(vllm_engine):
    return vllm_engine.llm


@pytest.fixture
def tokenizer(llm):
    return llm.get_tokenizer()


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(
        model_folder(), dtype=torch.float32
    ).eval()


@torch.inference_mode()
def rows_of(model, prompt, token_ids):
    """Full log-probabilities at each generated token, shape (n_steps, V)."""
    ids = torch.tensor([[*prompt, *token_ids]])
    logprobs = torch.log_softmax(model(ids, use_cache=False).logits[0].double(), dim=-1)
    return logprobs[len(prompt) - 1 : -1].numpy()


def check_tracked(model, output, track_ids):
    """Hold every tracked value of an answer to an uncached forward pass."""
    [completion] = output.outputs
    rows = rows_of(model, output.prompt_token_ids, completion.token_ids)
    tracked = tracked_logprobs(completion)
    assert tracked.keys() == set(track_ids)
    for token_id, logprobs_over_time in tracked.items():
        assert len(logprobs_over_time) == len(completion.token_ids)
        np.testing.assert_allclose(
            logprobs_over_time, rows[:, token_id], rtol=0, atol=1e-4
        )


# Tracked token log-probabilities

CASES = {
    "classification": (
        ["Technology", "Politics", "Sports", "Art"],
        "Classify this article: 'The new GPU architecture shows 2x performance...'",
        {"temperature": 0.0, "max_tokens": 10},
    ),
    "a binary decision": (
        ["Yes", "No"],
        "Is this content safe? Content: ...",
        {"temperature": 0.0, "max_tokens": 50},
    ),
    "detecting generated content": (
        ["real", "ai-generated", "synthetic"],
        "Is this image real or AI-generated?",
        {"temperature": 0.0, "max_tokens": 100},
    ),
    "words over a long text": (
        ["however", "therefore", "because", "but"],
        "My parcel is late, and",
        {"temperature": 0.7, "max_tokens": 400, "seed": 1},
    ),
}


@on("vllm demo", "vllm demo, ngram")
@pytest.mark.parametrize("case", CASES)
def test_tracked_tokens(llm, tokenizer, model, case):
    words, prompt, options = CASES[case]
    track_ids = []
    for word in words:
        track_ids.extend(tokenizer.encode(word, add_special_tokens=False))
    sampling_params = tracked_sampling_params(track_token_ids=track_ids, **options)
    outputs = llm.generate([prompt], sampling_params, use_tqdm=False)
    check_tracked(model, outputs[0], track_ids)


@on("vllm demo")
def test_the_form_of_tracked_values(llm):
    sampling_params = tracked_sampling_params(
        track_token_ids=[100, 200, 300], max_tokens=5, ignore_eos=True
    )
    [output] = llm.generate(["Where is it?"], sampling_params, use_tqdm=False)
    tracked = tracked_logprobs(output.outputs[0])
    assert set(tracked) == {100, 200, 300}
    assert all(len(values) == 5 for values in tracked.values())
    assert all(value < 0.0 for values in tracked.values() for value in values)


@on("vllm demo", "vllm demo, ngram", WITH_PROCESSES)
def test_tracked_tokens_beside_top_logprobs(llm, model):
    sampling_params = tracked_sampling_params(
        top_logprobs=5, track_token_ids=[100, 200], temperature=0.0, max_tokens=12
    )
    prompts = ["Where is my parcel?", "I was charged twice."]
    for output in llm.generate(prompts, sampling_params, use_tqdm=False):
        check_tracked(model, output, [100, 200])
        completion = output.outputs[0]
        top_k = top_logprobs(completion)
        rows = rows_of(model, output.prompt_token_ids, completion.token_ids)
        assert len(top_k) == len(completion.token_ids)
        for top, row in zip(top_k, rows, strict=True):
            assert list(top) == np.argsort(-row)[:5].tolist()
            np.testing.assert_allclose(
                list(top.values()), row[list(top)], rtol=0, atol=1e-4
            )


@on("vllm demo")
def test_an_empty_list_gives_an_empty_dict(llm):
    sampling_params = tracked_sampling_params(track_token_ids=[], max_tokens=3)
    [output] = llm.generate(["Hello"], sampling_params, use_tqdm=False)
    assert tracked_logprobs(output.outputs[0]) == {}


# Prompts of token ids, and speculative decoding


def as_tokens(prompts):
    from vllm.inputs import TokensPrompt

    return [TokensPrompt(prompt_token_ids=ids) for ids in prompts]


def greedy(model, prompt, token_ids):
    """Check that each token is the likeliest after those before it."""
    rows = rows_of(model, prompt, token_ids)
    for row, token in zip(rows, token_ids, strict=True):
        assert row[token] >= row.max() - 1e-4


def generated(llm, prompts, **options):
    """Generate with a tracked token beside; the outputs."""
    sampling_params = tracked_sampling_params(track_token_ids=[100], **options)
    return llm.generate(as_tokens(prompts), sampling_params, use_tqdm=False)


PATTERN = """
def add(a, b):
    return a + b

def subtract(a, b):
    return a - b

def multiply(a, b):
"""


@on("vllm demo, ngram")
@pytest.mark.parametrize("length", [50, 100])
def test_token_prompts_with_ngram(llm, tokenizer, model, length):
    prompts_text = [
        "The capital of France is Paris. The capital of Germany is",
        "To sort a list in Python: list.sort(). To reverse a list in Python:",
        PATTERN,
    ]
    prompts = [tokenizer.encode(p, add_special_tokens=False) for p in prompts_text]
    outputs = generated(llm, prompts, temperature=0.0, max_tokens=length)
    for prompt, output in zip(prompts, outputs, strict=True):
        completion = output.outputs[0]
        assert output.prompt_token_ids == prompt
        greedy(model, prompt, completion.token_ids)
        check_tracked(model, output, [100])
        # Only what was generated becomes text, without control tokens.
        assert completion.text == tokenizer.decode(
            completion.token_ids, skip_special_tokens=True
        )


@on("vllm demo, eagle")
def test_token_prompts_with_eagle(llm, tokenizer, model):
    prompt_text = "Explain the theory of relativity in simple terms."
    prompt = tokenizer.encode(prompt_text, add_special_tokens=True)
    [output] = generated(llm, [prompt], temperature=0.0, max_tokens=200)
    greedy(model, prompt, output.outputs[0].token_ids)
    check_tracked(model, output, [100])


@on("vllm demo, ngram", "vllm demo, eagle", "vllm demo, labels", WITH_PROCESSES)
def test_a_batch_of_token_prompts(llm, tokenizer, model):
    prompts_text = [
        "The first president of the United States was",
        "The largest planet in our solar system is",
        "The chemical symbol for gold is",
        "The speed of light is approximately",
    ]
    prompts = [tokenizer.encode(p, add_special_tokens=True) for p in prompts_text]
    outputs = generated(llm, prompts, temperature=0.0, max_tokens=50)
    for prompt, output in zip(prompts, outputs, strict=True):
        assert output.prompt_token_ids == prompt
        greedy(model, prompt, output.outputs[0].token_ids)
        check_tracked(model, output, [100])


@on("vllm demo, ngram")
def test_tokens_put_together_by_hand(llm, tokenizer, model):
    base = tokenizer.encode("Translate to French: Hello", add_special_tokens=False)
    modified = [tokenizer.bos_token_id, *base]
    options = {"temperature": 0.3, "max_tokens": 50, "seed": 5}
    first, again = (generated(llm, [modified], **options)[0] for _ in range(2))
    assert first.prompt_token_ids == modified
    assert first.outputs[0].token_ids == again.outputs[0].token_ids
    # The temperature changes which tokens come, never what they are worth.
    check_tracked(model, first, [100])


@on("vllm demo, ngram")
def test_tokens_of_an_answer_become_the_next_prompt(llm, tokenizer, model):
    prompt = tokenizer.encode("Count: one, two, three,", add_special_tokens=False)
    options = {"temperature": 0.0, "ignore_eos": True}
    [whole] = generated(llm, [prompt], max_tokens=24, **options)
    [first] = generated(llm, [prompt], max_tokens=10, **options)
    chained = [*prompt, *first.outputs[0].token_ids]
    [rest] = generated(llm, [chained], max_tokens=14, **options)
    parts = [completion.outputs[0] for completion in (first, rest)]
    assert [t for part in parts for t in part.token_ids] == [
        *whole.outputs[0].token_ids
    ]
    joined = [value for part in parts for value in tracked_logprobs(part)[100]]
    np.testing.assert_allclose(
        joined, tracked_logprobs(whole.outputs[0])[100], rtol=0, atol=1e-4
    )
