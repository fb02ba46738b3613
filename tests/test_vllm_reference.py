"""The examples of the documents that specify tracked tokens and token prompts.

They are written for an 8B model and a GPU, and for a vLLM that has `track_token_ids`.
Here `LLM` and `SamplingParams` are ours, and the demo model runs on a CPU, where
nothing of interest is said, but every number can be checked.
"""

import re

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from classify.demo import model_folder
from classify.errors import ConfigError, InputError
from tests.vllm_engines import WITH_PROCESSES


def on(*names):
    return pytest.mark.parametrize("vllm_engine", names, indirect=True)


@pytest.fixture
def llm(vllm_engine):
    from classify.engines.vllm import LLM

    assert isinstance(vllm_engine.llm, LLM)
    return vllm_engine.llm


def params(**options):
    from classify.engines.vllm import SamplingParams

    return SamplingParams(**options)


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
    """Hold every tracked value of an answer to uncached forward passes."""
    for completion in output.outputs:
        rows = rows_of(model, output.prompt_token_ids, completion.token_ids)
        tracked = completion.tracked_logprobs
        assert list(tracked) == list(dict.fromkeys(track_ids))
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
    sampling_params = params(track_token_ids=track_ids, **options)
    outputs = llm.generate([prompt], sampling_params, use_tqdm=False)
    check_tracked(model, outputs[0], track_ids)


@on("vllm demo")
def test_the_form_of_tracked_values(llm):
    sampling_params = params(
        track_token_ids=[100, 200, 300], max_tokens=5, ignore_eos=True
    )
    [output] = llm.generate(["Where is it?"], sampling_params, use_tqdm=False)
    tracked = output.outputs[0].tracked_logprobs
    assert set(tracked) == {100, 200, 300}
    assert all(len(values) == 5 for values in tracked.values())
    assert all(value < 0.0 for values in tracked.values() for value in values)


def stock_form(completion):
    """What vLLM says besides, but for the last digits of its values.

    Far down, tokens lie so close that the last digits decide about their ranks.
    """
    steps = completion.logprobs
    return completion.token_ids, steps and [
        {
            token: (
                pytest.approx(one.logprob, abs=1e-5),
                min(one.rank, 20),
                one.decoded_token,
            )
            for token, one in step.items()
        }
        for step in steps
    ]


@on("vllm demo", "vllm demo, ngram", WITH_PROCESSES)
@pytest.mark.parametrize("logprobs", [None, 0, 5, -1])
@pytest.mark.parametrize("flat", [False, True])
def test_tracked_tokens_beside_top_logprobs(llm, model, logprobs, flat):
    options = {"logprobs": logprobs, "flat_logprobs": flat}
    # All tokens of the vocabulary are decoded at each step with -1.
    options |= {"temperature": 0.0, "max_tokens": 5 if logprobs == -1 else 12}
    sampling_params = params(track_token_ids=[100, 200], **options)
    prompts = ["Where is my parcel?", "I was charged twice."]
    outputs = llm.generate(prompts, sampling_params, use_tqdm=False)
    stock = llm.generate(prompts, params(**options), use_tqdm=False)
    for output, without in zip(outputs, stock, strict=True):
        check_tracked(model, output, [100, 200])
        [ours], [theirs] = output.outputs, without.outputs
        assert stock_form(ours) == stock_form(theirs)
        assert type(ours.logprobs) is type(theirs.logprobs)
        assert theirs.tracked_logprobs is None
        total = theirs.cumulative_logprob
        assert ours.cumulative_logprob == (total and pytest.approx(total, abs=1e-4))
    # What was asked stays as it was written.
    assert sampling_params.track_token_ids == [100, 200]
    assert (sampling_params.logprobs, sampling_params.extra_args) == (logprobs, None)


@on("vllm demo")
def test_an_empty_list_gives_an_empty_dict_and_none_gives_none(llm):
    asked = [params(track_token_ids=ids, max_tokens=3) for ids in ([], None)]
    outputs = llm.generate(["Hello", "Hello"], asked, use_tqdm=False)
    assert [output.outputs[0].tracked_logprobs for output in outputs] == [{}, None]
    [plain] = llm.generate(["Hello"], use_tqdm=False)
    assert plain.outputs[0].tracked_logprobs is None


@on("vllm demo", "vllm demo, ngram")
@pytest.mark.parametrize("ids", [[300, 7, 300], np.array([7, 300]), (7,)])
def test_ids_of_any_form_and_several_completions(llm, model, ids):
    sampling_params = params(
        track_token_ids=ids, n=3, temperature=0.9, seed=2, max_tokens=9
    )
    [output] = llm.generate(["Where is it?"], sampling_params, use_tqdm=False)
    assert len({tuple(completion.token_ids) for completion in output.outputs}) == 3
    check_tracked(model, output, ids)


@on("vllm demo, ngram")
def test_every_way_to_ask(llm, model):
    sampling_params = params(
        track_token_ids=[100], temperature=0.0, max_tokens=40, prompt_logprobs=1
    )
    llm.enqueue(["One, two, one, two,", "Hello"], sampling_params, use_tqdm=False)
    for output in llm.wait_for_completion(use_tqdm=False):
        check_tracked(model, output, [100])
        first, *rest = output.prompt_logprobs
        assert first is None
        for step, token in zip(rest, output.prompt_token_ids[1:], strict=True):
            assert token in step
    [output] = llm.chat(
        [{"role": "user", "content": "Hello"}],
        sampling_params,
        use_tqdm=False,
        chat_template="{{ messages[0].content }}",
    )
    check_tracked(model, output, [100])
    whole = output.outputs[0]
    assert len(whole.token_ids) > 3
    # A text that ends it, wherever in the drafted tokens that comes.
    stop = whole.text[len(whole.text) // 2 :][:4]
    sampling_params = params(
        track_token_ids=[100], temperature=0.0, max_tokens=40, stop=stop
    )
    [output] = llm.generate(
        as_tokens([output.prompt_token_ids]), sampling_params, use_tqdm=False
    )
    assert output.outputs[0].finish_reason == "stop"
    check_tracked(model, output, [100])


@on("vllm demo", "vllm demo, ngram", WITH_PROCESSES)
@pytest.mark.parametrize("kind", ["DELTA", "CUMULATIVE"])
@pytest.mark.parametrize("n", [1, 2])
def test_streams(llm, model, kind, n):
    from vllm.sampling_params import RequestOutputKind

    sampling_params = params(
        track_token_ids=[100, 7],
        logprobs=2,
        temperature=0.5,
        seed=3,
        max_tokens=10,
        n=n,
        output_kind=RequestOutputKind[kind],
    )
    llm.llm_engine.add_request("a stream", "one, two, one, two,", sampling_params)
    parts = [[] for _ in range(n)]
    while llm.llm_engine.has_unfinished_requests():
        for output in llm.llm_engine.step():
            prompt = output.prompt_token_ids
            for one in output.outputs:
                assert list(one.tracked_logprobs) == [100, 7]
                lengths = {len(column) for column in one.tracked_logprobs.values()}
                assert lengths == {len(one.token_ids)} == {len(one.logprobs)}
                parts[one.index].append((list(one.token_ids), one.tracked_logprobs))
    for sequence in parts:
        assert len(sequence) > 1
        tokens, tracked = sequence[-1]
        if kind == "DELTA":
            tokens = [token for part, _ in sequence for token in part]
            tracked = {
                token: [value for _, part in sequence for value in part[token]]
                for token in tracked
            }
        assert len(tokens) == 10
        rows = rows_of(model, prompt, tokens)
        for token, column in tracked.items():
            np.testing.assert_allclose(column, rows[:, token], rtol=0, atol=1e-4)


REFUSED = {
    "an id outside": (
        {"track_token_ids": [5, 4096]},
        (
            "track_token_ids holds 4096, which is outside the vocabulary of 4096 "
            "tokens: ids must be in [0, 4096)."
        ),
    ),
    "a negative id": (
        {"track_token_ids": [5, -1]},
        (
            "track_token_ids holds -1, which is outside the vocabulary of 4096 tokens: "
            "ids must be in [0, 4096)."
        ),
    ),
    "text": (
        {"track_token_ids": ["yes"]},
        (
            "track_token_ids must hold token ids, integers in [0, 4096). Got 'yes' "
            "instead."
        ),
    ),
    "a fraction": (
        {"track_token_ids": [1.0]},
        "track_token_ids must hold token ids, integers in [0, 4096). Got 1.0 instead.",
    ),
    "one id": (
        {"track_token_ids": 5},
        "track_token_ids must be a sequence of token ids. Got 5.",
    ),
    "lists of ids": (
        {"track_token_ids": [[5], [6]]},
        "track_token_ids must be a sequence of token ids. Got [[5], [6]].",
    ),
    "upstream's ids": (
        {"track_token_ids": [5], "logprob_token_ids": [3]},
        (
            "logprob_token_ids cannot be given with track_token_ids: put all ids into "
            "track_token_ids."
        ),
    ),
    "more than there are": (
        {"track_token_ids": [5], "logprobs": 5000},
        "logprobs must be at most the vocabulary size, 4096. Got 5000 instead.",
    ),
}


@on("vllm demo")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_refused_before_the_engine(llm, model, case):
    options, message = REFUSED[case]
    good, bad = params(track_token_ids=[5], max_tokens=3), params(**options)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        llm.generate(["Hello", "Hello"], [good, bad], use_tqdm=False)
    assert not llm.llm_engine.has_unfinished_requests()
    [output] = llm.generate(["Hello"], good, use_tqdm=False)
    check_tracked(model, output, [5])


@pytest.mark.slow
def test_an_extension_of_their_own_is_refused():
    pytest.importorskip("vllm")
    from classify.engines.vllm import LLM

    message = (
        "worker_extension_cls cannot be given: this LLM tracks tokens with an "
        "extension of its own."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        LLM("a model", worker_extension_cls="theirs.Extension")


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
    sampling_params = params(track_token_ids=[100], **options)
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
    joined = [value for part in parts for value in part.tracked_logprobs[100]]
    np.testing.assert_allclose(
        joined, whole.outputs[0].tracked_logprobs[100], rtol=0, atol=1e-4
    )
