"""Prompts that begin alike are read as branches of one tree, and give the same."""

import copy

import numpy as np
import pytest
import torch

from classify.engines import read
from classify.engines.transformers import TransformersEngine
from classify.engines.transformers.tree_pass import Asked
from classify.engines.transformers.trunks import alike
from classify.tracking import ReadRequest, TokenTree
from tests.tiny_models import (
    VOCAB,
    make_model,
    make_reference,
    random_prompt,
    random_tree,
)

TREE = random_tree(n_paths=12)
INNER = tuple(TREE.inner_nodes.tolist())
YES_NO = TokenTree([(3,), (5,), (7,)])
CLOSE = {"atol": 3e-5, "rtol": 0.0}


def questions(n_texts=4, n_questions=5, length=20):
    """Return prompts of texts, each with several questions behind it."""
    start = random_prompt(6, 1000)
    rests = [random_prompt(2 + n % 3, 2000 + n) for n in range(n_questions)]
    return [
        start + random_prompt(length + 3 * text, text) + rest
        for text in range(n_texts)
        for rest in rests
    ]


def check(engine, architecture, requests):
    """Compare reads, on one line, so that what is kept serves those that follow."""
    reference = make_reference(architecture)
    tickets = {engine.submit(request): request for request in requests}
    while tickets:
        for ticket, edges in engine.poll():
            request = tickets.pop(ticket)
            expected = reference.edges(
                request.prompt_token_ids, request.tree, request.nodes
            )
            known = ~np.isnan(expected)
            assert len(edges) == len(expected)
            np.testing.assert_allclose(edges[known], expected[known], **CLOSE)


@pytest.mark.parametrize(
    "architecture",
    ["llama", "gemma3_window", "opt", "bloom_alibi", "mamba_recurrent"],
)
def test_branches_of_a_trunk_are_read_right(architecture):
    engine = TransformersEngine(make_model(architecture))
    prompts = questions()
    check(engine, architecture, [ReadRequest(p, YES_NO, (0,)) for p in prompts])
    # In parts: roots first, then what is below, in another order and not for all.
    check(engine, architecture, [ReadRequest(p, TREE, (0,)) for p in prompts])
    check(engine, architecture, [ReadRequest(p, TREE, INNER[1:4]) for p in prompts[3:]])
    check(engine, architecture, [ReadRequest(p, TREE, INNER) for p in prompts[::-1]])


def test_every_prompt_may_have_a_tree_of_its_own():
    engine = TransformersEngine(make_model("llama"))
    prompts = questions(n_texts=2)
    trees = [YES_NO, TREE, random_tree(n_paths=5, seed=3)]
    requests = [
        ReadRequest(prompt, trees[at % 3], tuple(trees[at % 3].inner_nodes.tolist()))
        for at, prompt in enumerate(prompts)
    ]
    check(engine, "llama", requests)
    # The same prompts with other trees, while the first are kept.
    check(engine, "llama", [ReadRequest(p, TREE, (0,)) for p in prompts])
    check(engine, "llama", [ReadRequest(p, YES_NO, (0,)) for p in prompts])
    check(engine, "llama", [ReadRequest(p, TREE, INNER[2:]) for p in prompts])


def test_a_trunk_that_is_itself_a_prompt():
    engine = TransformersEngine(make_model("llama"))
    prompts = questions(n_texts=1)
    trunk = prompts[0][:26]
    check(engine, "llama", [ReadRequest(p, TREE, (0,)) for p in prompts])
    check(engine, "llama", [ReadRequest(trunk, TREE, INNER[:3])])
    both = [ReadRequest(p, TREE, INNER) for p in [trunk, *prompts]]
    check(engine, "llama", both)


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
def test_groups_too_big_for_a_pass_are_divided(batch_size):
    engine = TransformersEngine(make_model("llama"), batch_size=batch_size)
    engine._shared.budget.most_nodes = 7
    prompts = questions(n_questions=9)
    check(engine, "llama", [ReadRequest(p, YES_NO, (0,)) for p in prompts])
    check(engine, "llama", [ReadRequest(p, TREE, INNER) for p in prompts])


def test_what_is_kept_of_little_room():
    engine = TransformersEngine(make_model("llama"), cache_bytes=20_000)
    prompts = questions()
    for nodes in ((0,), INNER[1:3], INNER[2:]):
        check(engine, "llama", [ReadRequest(p, TREE, nodes) for p in prompts])


def test_reads_that_a_joint_one_replaces_are_dropped():
    prompts, other = questions(n_texts=1), random_tree(n_paths=5, seed=3)
    engines = [TransformersEngine(make_model("llama")) for _ in range(2)]
    for prompt in prompts:
        check(engines[0], "llama", [ReadRequest(prompt, TREE, (0,))])
    for engine in engines:
        check(engine, "llama", [ReadRequest(p, other, (0,)) for p in prompts])
    first, second = (engine._own._reader._kept.n_bytes for engine in engines)
    assert first == second > 0


@pytest.mark.parametrize("n_texts", [1, 3])
def test_a_text_is_computed_once_for_all_questions(n_texts):
    model = make_model("opt")  # has no faster form that leaves its layers out
    engine = TransformersEngine(model)
    prompts = questions(n_texts, n_questions=8, length=40)
    n_tokens = []
    layer = model.get_input_embeddings()
    requests = [ReadRequest(p, YES_NO, (0,)) for p in prompts]
    read(engine, requests)  # comparisons of the model with itself come first
    hook = layer.register_forward_hook(lambda *a: n_tokens.append(a[1][0].numel()))
    read(engine, requests)
    hook.remove()
    texts = {prompt[:46] for prompt in prompts}
    assert len(texts) == n_texts
    n_rests = sum(2 + n % 3 for n in range(8))
    most = n_texts * (46 + 3 * n_texts + n_rests)
    assert sum(n_tokens) <= most < 0.3 * sum(map(len, prompts))


def test_prompts_are_alike_where_half_is_shared():
    def groups(prompts, n_known=0):
        asked = [Asked(prompt, YES_NO, (0,)) for prompt in prompts]
        return [[one.prompt for one in group] for group in alike(asked, n_known)]

    start = tuple(range(20))
    a, b, c = (*start, 1, 2, 3), (*start, 1, 2, 4), start + (9,) * 25
    assert groups([a, c, b]) == [[a, b], [c]]
    assert groups([a, b], n_known=22) == [[a], [b]]
    # One that begins another would end inside the other's branch.
    assert groups([a, (*a, 7), (*a, 8)]) == [[a], [(*a, 7), (*a, 8)]]
    assert max(max(prompt) for prompt in questions()) < VOCAB


def test_nan_of_one_prompt_stays_out_of_the_others():
    model = copy.deepcopy(make_model("llama"))
    start, odd = questions(n_texts=1), questions(n_texts=1, n_questions=6)[-1]
    token = next(each for each in range(VOCAB) if all(each not in p for p in start))
    # The head is no longer the embedding, whose NaN would be in all that it computes.
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    engine = TransformersEngine(model)
    check(engine, "llama", [ReadRequest(start[0], YES_NO, (0,))])
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = float("nan")
    requests = [ReadRequest(p, TREE, INNER) for p in start]
    check(engine, "llama", requests[:2])
    spoilt = ReadRequest((*odd[:-1], token), TREE, INNER)
    tickets = [engine.submit(request) for request in (spoilt, *requests[2:])]
    answers = {}
    while len(answers) < len(tickets):
        answers.update(engine.poll())
    assert np.isnan(answers.pop(tickets[0])).all()
    reference = make_reference("llama")
    for ticket, request in zip(tickets[1:], requests[2:], strict=True):
        expected = reference.edges(request.prompt_token_ids, TREE, INNER)
        np.testing.assert_allclose(answers[ticket][1:], expected[1:], **CLOSE)
