"""Tracked values beside everything else that a vLLM batch may hold.

The oracle of most tests is vLLM itself, asked for the log-probabilities of the whole
vocabulary; the tiny models have a slow reference of their own besides.
"""

import numpy as np
import pytest

from classify.engines import generate, read
from classify.tracking import ReadRequest, TokenTree, TrackedRequest
from tests.tiny_models import VOCAB, make_reference, random_prompt, random_tree
from tests.vllm_engines import TINY, TINY_ENGINES

CLOSE = {"rtol": 0.0, "atol": 1e-5}
# The reference computes with other kernels than vLLM, over dozens of tokens.
NEAR = {"rtol": 0.0, "atol": 3e-5}
EVERY_TINY = pytest.mark.parametrize("vllm_engine", TINY_ENGINES, indirect=True)


def on(*names):
    return pytest.mark.parametrize("vllm_engine", names, indirect=True)


def stock(**options):
    from vllm import SamplingParams

    return SamplingParams(detokenize=False, ignore_eos=True, **options)


def tracking(token_ids, **options):
    from classify.engines.vllm import SamplingParams

    return SamplingParams(
        track_token_ids=token_ids, detokenize=False, ignore_eos=True, **options
    )


def ask(engine, prompts, parameters):
    """Answer prompts in one batch; a list of completions for each."""
    inputs = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    outputs = engine.llm.generate(inputs, parameters, use_tqdm=False)
    return [output.outputs for output in outputs]


def repeating_prompts(n, vocab=VOCAB, *, most=70):
    """Prompts that repeat themselves, so that there is something to draft."""
    rng = np.random.default_rng(n)
    return [
        np.resize(rng.integers(3, vocab, rng.integers(2, 12)), rng.integers(3, most))
        .astype(int)
        .tolist()
        for _ in range(n)
    ]


# What a request may ask: how, and how its answer compares with full log-probabilities.
# A full answer is, for each step, a dict of every token's log-probability.

IDS = (50, 3, 17, 3, 60, 0)


def as_tracked(completion, full, ids=IDS):
    values = completion.tracked_logprobs
    assert list(values) == list(dict.fromkeys(ids))
    for token, column in values.items():
        np.testing.assert_allclose(column, [step[token] for step in full], **CLOSE)


def as_top(completion, full, n=3):
    for token, found, step in zip(
        completion.token_ids, completion.logprobs, full, strict=True
    ):
        likeliest = sorted(step, key=step.__getitem__, reverse=True)[:n]
        assert found.keys() == {token, *likeliest}
        for one, value in found.items():
            assert value.logprob == pytest.approx(step[one], abs=1e-5)
            assert value.rank == 1 + sum(v > step[one] for v in step.values())


def as_only_tracked(completion, full, ids=IDS):
    as_tracked(completion, full, ids)
    assert completion.logprobs is None
    assert completion.cumulative_logprob is None


def as_both(completion, full, ids, n):
    as_tracked(completion, full, ids)
    as_top(completion, full, n)


def as_upstream(completion, full):
    for token, found, step in zip(
        completion.token_ids, completion.logprobs, full, strict=True
    ):
        assert found.keys() == {token, *IDS}
        for one, value in found.items():
            assert value.logprob == pytest.approx(step[one], abs=1e-5)


def as_nothing(completion, full):
    assert completion.logprobs is None
    assert completion.tracked_logprobs is None


KINDS = {
    "tracks": (lambda **o: tracking(IDS, **o), as_only_tracked),
    "asks top-k": (lambda **o: stock(logprobs=3, **o), as_top),
    "both": (
        lambda **o: tracking((8, 9), logprobs=5, **o),
        lambda completion, full: as_both(completion, full, (8, 9), 5),
    ),
    "neither": (stock, as_nothing),
    "tracks all": (
        lambda **o: tracking(range(VOCAB), **o),
        lambda completion, full: as_only_tracked(completion, full, range(VOCAB)),
    ),
    "upstream's ids": (
        lambda **o: stock(logprob_token_ids=sorted(set(IDS)), **o),
        as_upstream,
    ),
    "tracks none": (
        lambda **o: tracking([], **o),
        lambda completion, full: as_only_tracked(completion, full, ()),
    ),
    "tracks, and asks for the sampled": (
        lambda **o: tracking([7], logprobs=0, **o),
        lambda completion, full: as_both(completion, full, [7], 0),
    ),
}


def check_batch(engine, kinds, *, n_tokens=9, temperature=0.0):
    """Ask a batch of these kinds, and hold the answers to full log-probabilities."""
    prompts = repeating_prompts(len(kinds))
    options = [
        {"max_tokens": n_tokens, "temperature": temperature, "seed": seed}
        for seed in range(len(kinds))
    ]
    found = ask(
        engine,
        prompts,
        [KINDS[kind][0](**some) for kind, some in zip(kinds, options, strict=True)],
    )
    generated = [completion.token_ids for [completion] in found]
    if temperature == 0.0:
        full = ask(engine, prompts, [stock(logprobs=-1, **some) for some in options])
        assert generated == [right.token_ids for [right] in full]
        rows = [right.logprobs for [right] in full]
    else:
        rows = read_back(engine, prompts, generated)
    for kind, [completion], steps in zip(kinds, found, rows, strict=True):
        assert len(completion.token_ids) == n_tokens
        assert {len(step) for step in steps} == {VOCAB}
        KINDS[kind][1](
            completion,
            [{token: one.logprob for token, one in step.items()} for step in steps],
        )


def read_back(engine, prompts, generated):
    """Full log-probabilities at tokens that were sampled.

    The same seed gives other tokens where other drafts were verified on the way, and
    what is drafted hangs on what room there is in the batch.
    """
    whole = [[*p, *tokens] for p, tokens in zip(prompts, generated, strict=True)]
    inputs = [{"prompt_token_ids": tokens} for tokens in whole]
    parameters = stock(prompt_logprobs=-1, max_tokens=1)
    outputs = engine.llm.generate(inputs, parameters, use_tqdm=False)
    return [
        output.prompt_logprobs[len(prompt) :]
        for output, prompt in zip(outputs, prompts, strict=True)
    ]


@EVERY_TINY
@pytest.mark.parametrize("temperature", [0.0, 0.9], ids=["greedy", "sampled"])
def test_all_kinds_of_requests_in_one_batch(vllm_engine, temperature):
    check_batch(vllm_engine, [*KINDS, *reversed(KINDS)], temperature=temperature)


@EVERY_TINY
@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_request_alone(vllm_engine, kind):
    check_batch(vllm_engine, [kind], n_tokens=12)
    check_batch(vllm_engine, [kind] * 3, temperature=0.9)


# The failures of stock vLLM, each with its own parameter and with ours.

BOTH_WAYS = pytest.mark.parametrize("kind", ["upstream's ids", "tracks"])


@on("vllm")
@BOTH_WAYS
def test_upstream_failure_a_neighbour_gets_wrong_top_logprobs(vllm_engine, kind):
    check_batch(vllm_engine, [kind, "asks top-k"])


@on("vllm, ngram")
@BOTH_WAYS
def test_upstream_failure_tracked_values_are_lost_under_ngram(vllm_engine, kind):
    check_batch(vllm_engine, [kind, kind])


@on("vllm, ngram", "vllm, eagle")
@BOTH_WAYS
def test_upstream_failure_a_mixed_batch_under_drafts_kills_it(vllm_engine, kind):
    check_batch(vllm_engine, [kind, "asks top-k", "neither"])


# Tokens


@EVERY_TINY
def test_greedy_tokens_are_those_without_speculation(vllm_engine):
    reference = make_reference(TINY)
    prompts = repeating_prompts(6, most=40)
    found = ask(vllm_engine, prompts, tracking([5], temperature=0.0, max_tokens=25))
    for prompt, [completion] in zip(prompts, found, strict=True):
        tokens = list(prompt)
        for _ in range(25):
            tokens.append(int(np.argmax(reference.logprobs(tokens))))
        assert list(completion.token_ids) == tokens[len(prompt) :]


@EVERY_TINY
def test_seeds_and_draws(vllm_engine):
    """Tracked draws are those of stock vLLM, and their values stay raw."""
    options = {"temperature": 0.7, "max_tokens": 10, "n": 3}
    # Short, so that all three draws fit: see `read_back`.
    prompt = repeating_prompts(1, most=15)[0]
    reference = make_reference(TINY)
    drawn = set()
    for seed in (1, 11):  # the draws of a request have seeds one after the other
        [ours] = ask(vllm_engine, [prompt], tracking(IDS, seed=seed, **options))
        [theirs] = ask(vllm_engine, [prompt], stock(seed=seed, **options))
        assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
        for completion in ours:
            drawn.add(tuple(completion.token_ids))
            check_against(reference, prompt, completion.token_ids, completion)
    assert len(drawn) == 6


def check_against(reference, prompt, token_ids, completion):
    expected = reference.tracked(prompt, token_ids, set(IDS))
    values = completion.tracked_logprobs
    assert values.keys() == expected.keys()
    for token, column in expected.items():
        np.testing.assert_allclose(values[token], column, **NEAR)


# Short of memory: prompts are read in chunks, requests are pushed out and come back.


def n_preempted(engine):
    [counter] = [
        metric
        for metric in engine.llm.get_metrics()
        if metric.name == "vllm:num_preemptions"
    ]
    return counter.value


def long_tree(seed):
    """Paths of 30 and more tokens that part after 12, and again after 20."""
    rng = np.random.default_rng(seed)

    def run(n_tokens):
        return rng.integers(5, 12, n_tokens).tolist()

    stem = run(12)
    return TokenTree(
        (*stem, *middle, *run(10 + at), VOCAB - 1)
        for middle in (run(8), run(8), run(8))
        for at in range(3)
    )


@EVERY_TINY
def test_requests_that_are_pushed_out_come_back_where_they_were(vllm_engine):
    reference, before = make_reference(TINY), n_preempted(vllm_engine)
    trees = [long_tree(seed) for seed in range(4)]
    requests = []
    for at in range(8):
        prompt = random_prompt(20 + 3 * at, at)
        tree = trees[at % len(trees)]
        requests += [
            TrackedRequest(prompt, IDS, max_tokens=50, stop_token_ids=()),
            TrackedRequest(prompt[1:], IDS, max_tokens=60, allowed=tree),
            ReadRequest(prompt[2:], tree, tuple(tree.inner_nodes.tolist())),
        ]
    tickets = [vllm_engine.submit(request) for request in requests]
    answers = {}
    while len(answers) < len(tickets):
        answers.update(vllm_engine.poll())
    assert n_preempted(vllm_engine) > before
    for ticket, request in zip(tickets, requests, strict=True):
        check_answer(reference, request, answers[ticket])


@EVERY_TINY
def test_prompts_that_are_read_in_chunks(vllm_engine):
    reference, tree = make_reference(TINY), random_tree(n_paths=20)
    inner = tuple(tree.inner_nodes.tolist())
    prompts = [random_prompt(n, n) for n in (49, 96, 97, 110, 120)]
    reads = [ReadRequest(prompt, tree, inner) for prompt in prompts]
    for request, answer in zip(reads, read(vllm_engine, reads), strict=True):
        check_answer(reference, request, answer)
    allowed = [
        TrackedRequest(prompt, IDS, max_tokens=5, allowed=tree, temperature=t, seed=1)
        for prompt in prompts
        for t in (0.0, 2.0)
    ]
    for request, answer in zip(allowed, generate(vllm_engine, allowed), strict=True):
        check_answer(reference, request, answer)


def check_answer(reference, request, answer):
    prompt = request.prompt_token_ids
    if isinstance(request, ReadRequest):
        expected = reference.edges(prompt, request.tree, request.nodes)
        np.testing.assert_allclose(answer[1:], expected[1:], **NEAR)
        return
    [generation] = answer
    if request.allowed is not None:
        assert generation.token_ids in request.allowed.paths
        assert generation.finish_reason == "stop"
    else:
        assert len(generation.token_ids) == request.max_tokens
    expected = reference.tracked(prompt, generation.token_ids, set(IDS))
    assert generation.tracked_logprobs.keys() == expected.keys()
    for token, column in expected.items():
        np.testing.assert_allclose(generation.tracked_logprobs[token], column, **NEAR)


# Many ids


@on("vllm demo", "vllm demo, ngram", "vllm demo, labels")
@pytest.mark.parametrize("n_ids", [150, 1000])
def test_any_number_of_ids_beside_top_k_and_neighbours(vllm_engine, n_ids):
    rng = np.random.default_rng(n_ids)
    vocab = vllm_engine.vocab_size
    prompts = repeating_prompts(4, vocab)
    lists = [rng.permutation(vocab)[:n_ids].tolist() for _ in prompts]
    options = {"temperature": 0.0, "max_tokens": 6}
    parameters = [
        tracking(lists[0], logprobs=7, **options),
        stock(logprobs=3, **options),
        tracking(lists[2], **options),
        tracking(lists[3][:1], **options),
    ]
    found = ask(vllm_engine, prompts, parameters)
    full = [
        [
            {token: value.logprob for token, value in step.items()}
            for step in right.logprobs
        ]
        for [right] in ask(vllm_engine, prompts, stock(logprobs=-1, **options))
    ]
    as_both(found[0][0], full[0], lists[0], 7)
    as_top(found[1][0], full[1])
    as_only_tracked(found[2][0], full[2], lists[2])
    as_only_tracked(found[3][0], full[3], lists[3][:1])


@on("vllm demo", "vllm demo, ngram")
def test_stock_requests_may_ask_for_more_than_there_is(vllm_engine):
    prompts = repeating_prompts(2, vllm_engine.vocab_size)
    options = {"temperature": 0.0, "max_tokens": 4}
    good, many = tracking([5, 6], **options), stock(logprobs=5000, **options)
    # What they get is all that there is, alone and with tracked ones in the batch.
    for parameters in ([many], [good, many]):
        *_, [all_of_them] = ask(vllm_engine, prompts[: len(parameters)], parameters)
        assert len(all_of_them.logprobs[0]) == 4096
