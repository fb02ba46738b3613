import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.engines import FakeEngine, read
from classify.errors import AnswerError, ConfigError, ScriptEndedError
from classify.scoring import (
    LabelLogprobs,
    average_masses,
    drive,
    exact,
    generate,
    make_strategy,
    score_prompts,
)
from classify.spec import Scoring
from classify.tracking import EdgeBounds, ReadRequest, TokenList, TrackedRequest
from classify.trie import LabelTrie, WordPath
from classify.verbalizer import ScorablePrompt
from tests.test_trie import VOCAB, labels_of, word_paths
from tests.toy_model import hashed_engine, hashed_logprobs, slow_label_logprobs

prompts_ids = st.lists(
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=5).map(tuple),
    min_size=1,
    max_size=6,
)


def scorable(paths, token_ids):
    return ScorablePrompt(
        token_ids, LabelTrie(paths, labels_of(paths)), truncated=False
    )


def truth(paths, token_ids):
    n_labels = max(path.label for path in paths) + 1
    return slow_label_logprobs(hashed_logprobs(VOCAB), token_ids, paths, n_labels)


def run(strategy, engine=None):
    [(_, score)] = drive([strategy], engine or hashed_engine(VOCAB))
    return score


@given(word_paths(), st.sampled_from([(1,), (2, 3)]))
def test_tolerance_zero_is_exact_in_one_request(paths, token_ids):
    engine = hashed_engine(VOCAB)
    score = run(exact(scorable(paths, token_ids), tolerance=0.0), engine)
    np.testing.assert_allclose(
        score.mass.estimate, truth(paths, token_ids), rtol=0, atol=1e-12
    )
    assert score.mass.unresolved == 0.0
    assert engine.n_requests == 1


@given(word_paths(), st.sampled_from([0.5, 0.1, 1e-2, 1e-3, 1e-6]))
def test_best_first_walk_keeps_its_promise(paths, tolerance):
    prompt = scorable(paths, (3,))
    score = run(exact(prompt, tolerance=tolerance))
    expected = truth(paths, (3,))
    assert (score.mass.lower <= expected + 1e-12).all()
    assert (expected <= score.mass.upper + 1e-12).all()
    resolved = np.exp(score.mass.lower).sum()
    assert score.mass.unresolved <= tolerance * resolved
    probability = np.exp(expected - np.logaddexp.reduce(expected))
    estimate = np.exp(score.mass.estimate - np.logaddexp.reduce(score.mass.estimate))
    assert np.abs(estimate - probability).max() <= tolerance


@given(word_paths())
def test_no_node_is_read_twice(paths):
    engine = hashed_engine(VOCAB)
    run(exact(scorable(paths, (3,)), tolerance=1e-3), engine)
    read = [node for request in engine.requests for node in request.nodes]
    assert len(read) == len(set(read))


def test_a_sure_model_needs_few_reads():
    words = [
        WordPath(label, str(tail), (label, *tail))
        for label in range(4)
        for tail in ((1, 2, 4), (2, 1, 4), (3, 3, 4))
    ]
    prompt, answer = scorable(words, (5,)), (2, 1, 2, 4)

    def next_logprobs(token_ids):
        n_said = len(token_ids) - 1
        likely = answer[n_said] if token_ids[1:] == answer[:n_said] else 0
        return np.log(np.where(np.arange(VOCAB) == likely, 1 - 5e-5, 1e-5))

    engine = FakeEngine.from_function(next_logprobs, VOCAB)
    score = run(exact(prompt, tolerance=1e-3), engine)
    assert score.mass.estimate.argmax() == 2
    # The root, the three nodes on the way, and nothing else of 29.
    assert score.n_reads == engine.n_reads == 4
    # The chain behind the second token is one request.
    assert score.n_rounds == engine.n_requests == 3


@given(word_paths())
def test_generate_bounds_the_truth_and_follows_the_likeliest_tokens(paths):
    prompt = scorable(paths, (2, 2))
    score = run(generate(prompt))
    expected = truth(paths, (2, 2))
    assert (score.mass.lower <= expected + 1e-12).all()
    assert (expected <= score.mass.upper + 1e-12).all()
    # One label word is resolved, and every read node lies on the way to it.
    steps = score.steps()
    for shorter, longer in itertools.pairwise(steps):
        best = max(shorter.logprobs, key=shorter.logprobs.__getitem__)
        assert longer.prefix == (*shorter.prefix, best)


@given(word_paths(), prompts_ids, st.integers(1, 4))
def test_driver_answers_every_text_whatever_the_window(paths, token_ids, window):
    trie = LabelTrie(paths, labels_of(paths))
    prompts = [ScorablePrompt(ids, trie, truncated=False) for ids in token_ids]
    engine = hashed_engine(VOCAB, window=3)
    strategies = (exact(prompt, tolerance=1e-3) for prompt in prompts)
    scores = dict(drive(strategies, engine, window=window))
    assert sorted(scores) == list(range(len(prompts)))
    for at, ids in enumerate(token_ids):
        alone = run(exact(prompts[at], tolerance=1e-3))
        np.testing.assert_array_equal(scores[at].mass.estimate, alone.mass.estimate)
        assert scores[at].prompt.token_ids == ids


def test_driver_takes_texts_only_as_room_appears():
    paths = word_paths_example()
    started = []

    def strategies():
        for at in range(10):
            started.append(at)
            yield exact(scorable(paths, (at % VOCAB,)), tolerance=0.0)

    results = drive(strategies(), hashed_engine(VOCAB, window=1), window=2)
    next(results)
    assert len(started) <= 3


def test_answers_to_a_run_that_was_broken_off_are_left_aside():
    # Engines are shared: a notebook's interrupted cell leaves requests in flight.
    paths = word_paths_example()
    engine = hashed_engine(VOCAB, window=1)
    begun = (exact(scorable(paths, (at,)), tolerance=0.0) for at in range(4))
    broken = drive(begun, engine, window=4)
    next(broken)
    broken.close()
    [(at, score)] = drive([exact(scorable(paths, (5,)), tolerance=0.0)], engine)
    assert at == 0
    alone = run(exact(scorable(paths, (5,)), tolerance=0.0))
    np.testing.assert_array_equal(score.mass.estimate, alone.mass.estimate)


def test_reads_leave_answers_to_others_aside():
    prompt = scorable(word_paths_example(), (4,))
    tree = prompt.trie.tree
    engine = hashed_engine(VOCAB, window=1)
    engine.submit(ReadRequest((3,), tree, (0,)))
    [edges] = read(engine, [ReadRequest((4,), tree, (0,))])
    [alone] = read(hashed_engine(VOCAB), [ReadRequest((4,), tree, (0,))])
    np.testing.assert_array_equal(edges, alone)


def test_equal_prompts_are_scored_once_and_each_gets_its_result():
    paths = word_paths_example()
    trie = LabelTrie(paths, labels_of(paths))
    prompts = [
        ScorablePrompt((1,), trie, truncated=False),
        ScorablePrompt((2,), trie, truncated=False),
        ScorablePrompt((1,), trie, truncated=True),
    ]
    engine, told = hashed_engine(VOCAB), []
    scores = score_prompts(
        prompts, make_strategy(Scoring(tolerance=0)), engine, progress=told.append
    )
    assert engine.n_requests == 2
    assert [score.prompt.truncated for score in scores] == [False, False, True]
    np.testing.assert_array_equal(scores[0].mass.estimate, scores[2].mass.estimate)
    assert sum(told) == 3


def test_steps_hold_what_was_read():
    paths = word_paths_example()
    scores = [run(exact(scorable(paths, (1,)), tolerance=0.0))]
    logprobs = LabelLogprobs.of(scores, ["label 0", "label 1"], return_steps=True)
    assert logprobs.steps is not None
    for prefix, values in logprobs.steps[0]:
        expected = hashed_logprobs(VOCAB)((1, *prefix))
        assert values == {token: float(expected[token]) for token in values}
    assert logprobs.steps[0][0].prefix == ()


def test_requests_carry_no_labels():
    paths = word_paths_example()
    prompt = scorable(paths, (1,))
    assert isinstance(next(exact(prompt)), ReadRequest)
    request = next(generate(prompt))
    assert isinstance(request, TrackedRequest)
    assert request.allowed is prompt.trie.tree


def test_a_script_that_ends_is_an_error():
    prompt = scorable(word_paths_example(), (1,))
    with pytest.raises(ScriptEndedError):
        run(exact(prompt), FakeEngine([], vocab_size=VOCAB))


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, 2, float("nan"), True])
def test_bad_tolerance(tolerance):
    with pytest.raises(ConfigError, match=r"'tolerance' parameter .* a number, from 0"):
        Scoring(tolerance=tolerance)


def test_unknown_strategy():
    with pytest.raises(
        ConfigError,
        match=r"must be one of 'exact', 'generate', 'reason'\. Got 'guess' instead",
    ):
        Scoring("guess")


def test_label_logprobs_of_no_text():
    logprobs = LabelLogprobs.of([], ["a", "b"])
    assert len(logprobs) == 0
    assert logprobs.proba.shape == (0, 2)
    assert logprobs.label_mass.shape == (0,)


def test_label_logprobs_can_be_taken_apart():
    paths = word_paths_example()
    scores = [run(exact(scorable(paths, (at,)), tolerance=0.0)) for at in range(4)]
    logprobs = LabelLogprobs.of(scores, ["label 0", "label 1"], return_steps=True)
    np.testing.assert_array_equal(logprobs[1:3].values, logprobs.values[1:3])
    np.testing.assert_array_equal(logprobs[2].values, logprobs.values[2:3])
    mask = np.array([True, False, False, True])
    np.testing.assert_array_equal(logprobs[mask].values, logprobs.values[[0, 3]])
    assert len(logprobs[mask].steps) == 2
    np.testing.assert_allclose(logprobs.proba.sum(axis=1), 1.0)


def test_no_mass_at_all_is_an_error_not_a_label():
    paths = word_paths_example()
    prompt = scorable(paths, (1,))
    edges = np.full(prompt.trie.tree.n_nodes, -np.inf)
    score = run(exact(prompt, tolerance=0.0), FakeEngine([edges], vocab_size=VOCAB))
    logprobs = LabelLogprobs.of([score], [label.name for label in prompt.trie.labels])
    with pytest.raises(
        ValueError, match=r"^Text 0 gives none of the labels any probab"
    ):
        logprobs.proba  # noqa: B018
    assert logprobs.label_mass.tolist() == [0.0]


def word_paths_example():
    return [
        WordPath(0, "a", (0, 1, 2)),
        WordPath(0, "b", (0, 3)),
        WordPath(1, "c", (4, 1)),
        WordPath(1, "d", (2,)),
    ]


# ------------------------------------ engines that show the likeliest tokens only


@given(
    word_paths(),
    st.integers(0, VOCAB),
    st.sampled_from([0.0, 1e-3, 0.1]),
    st.sampled_from([(1,), (2, 3)]),
)
def test_the_truth_lies_within_the_bounds_however_few_tokens_are_shown(
    paths, n_listed, tolerance, token_ids
):
    engine = FakeEngine.from_function(hashed_logprobs(VOCAB), VOCAB, n_listed=n_listed)
    mass = run(exact(scorable(paths, token_ids), tolerance=tolerance), engine).mass
    expected = truth(paths, token_ids)
    assert (mass.lower <= expected + 1e-9).all()
    assert (expected <= mass.upper + 1e-9).all()
    assert (mass.lower <= mass.estimate).all()
    assert (mass.estimate <= mass.upper).all()
    missing = np.exp(expected).sum() - np.exp(mass.lower).sum()
    assert -1e-9 <= missing <= mass.unresolved + 1e-9


@given(word_paths(), st.sampled_from([(1,), (2, 3)]))
def test_a_list_of_all_tokens_is_exact(paths, token_ids):
    engine = FakeEngine.from_function(hashed_logprobs(VOCAB), VOCAB, n_listed=VOCAB)
    mass = run(exact(scorable(paths, token_ids), tolerance=0.0), engine).mass
    for each in (mass.lower, mass.estimate, mass.upper):
        np.testing.assert_allclose(each, truth(paths, token_ids), rtol=0, atol=1e-9)
    assert mass.unresolved == pytest.approx(0.0, abs=1e-9)


@given(word_paths(), st.integers(1, VOCAB - 1))
def test_more_tokens_shown_never_know_less(paths, n_listed):
    few, more = (
        run(
            exact(scorable(paths, (3,)), tolerance=0.0),
            FakeEngine.from_function(hashed_logprobs(VOCAB), VOCAB, n_listed=n),
        ).mass
        for n in (n_listed, n_listed + 1)
    )
    assert (few.lower <= more.lower + 1e-9).all()
    assert (more.upper <= few.upper + 1e-5).all()
    assert more.unresolved <= few.unresolved + 1e-5


def test_a_label_that_is_not_listed_is_bounded_by_the_list():
    # Tokens 0 to 4; the list shows 0 and 1.
    logprobs = np.log([0.5, 0.3, 0.1, 0.06, 0.04])
    engine = FakeEngine.from_function(lambda _: logprobs, 5, n_listed=2)
    paths = [WordPath(0, "a", (0,)), WordPath(1, "b", (2,)), WordPath(2, "c", (3,))]
    mass = run(exact(scorable(paths, (1,)), tolerance=0.0), engine).mass
    np.testing.assert_allclose(np.exp(mass.lower), [0.5, 0.0, 0.0])
    np.testing.assert_allclose(np.exp(mass.upper), [0.5, 0.2, 0.2], atol=2e-6)
    # 0.2 for the three tokens that are left out, evenly.
    np.testing.assert_allclose(
        np.exp(mass.estimate), [0.5, 0.2 / 3, 0.2 / 3], atol=1e-6
    )
    assert mass.unresolved == pytest.approx(0.2, abs=2e-6)


def test_the_likeliest_label_is_certain_only_if_no_other_can_be_likelier():
    logprobs = np.log([0.5, 0.3, 0.1, 0.06, 0.04])
    paths = [WordPath(0, "a", (0,)), WordPath(1, "b", (2,)), WordPath(2, "c", (3,))]
    certain = {}
    for n_listed in (0, 1, 2, 3, 5):
        engine = FakeEngine.from_function(lambda _: logprobs, 5, n_listed=n_listed)
        score = run(exact(scorable(paths, (1,)), tolerance=0.0), engine)
        scores = LabelLogprobs.of([score], score.prompt.trie.labels.names)
        certain[n_listed] = bool(scores.is_certain[0])
    # Of a list of one token, 0.5 remains, which another label can have.
    assert certain == {0: False, 1: False, 2: True, 3: True, 5: True}
    assert LabelLogprobs.of([], ["a"]).is_certain.shape == (0,)


def test_nothing_is_asked_behind_a_token_left_out_unless_all_is():
    size = 10_000
    logprobs = np.log([0.5, 0.3, *[0.2 / (size - 2)] * (size - 2)])
    paths = [WordPath(0, "a", (0, 1)), WordPath(1, "b", (3, 1)), WordPath(1, "c", (4,))]
    for tolerance, n_reads in ((1e-3, 2), (0.0, 3)):
        engine = FakeEngine.from_function(lambda _: logprobs, size, n_listed=2)
        score = run(exact(scorable(paths, (1,)), tolerance=tolerance), engine)
        assert engine.n_reads == n_reads
        np.testing.assert_allclose(np.exp(score.mass.lower), [0.5 * 0.3, 0.0])
        assert np.exp(score.mass.upper[1]) == pytest.approx(0.2, abs=1e-5)


def test_an_answer_of_bounds_is_checked_like_any_other():
    prompt = scorable([WordPath(0, "a", (0,)), WordPath(1, "b", (1,))], (1,))
    tree = prompt.trie.tree
    good = EdgeBounds.of_lists(tree, {0: TokenList.of({0: -1.0})}, 8)
    nan = good._replace(values=np.full(tree.n_nodes, np.nan))
    above = EdgeBounds.of_lists(tree, {0: TokenList.of({0: 0.0, 1: -0.1})}, 8)
    for answer, message in (
        (nan, "are incomplete or NaN"),
        (above, "add up to 1.9, and cannot be above 1"),
    ):
        [(_, score)] = drive([exact(prompt)], FakeEngine([answer]))
        assert isinstance(score, AnswerError)
        assert message in str(score)
    [(_, score)] = drive([exact(prompt)], FakeEngine([good]))
    assert score.mass.lower[0] == -1.0


@given(word_paths(), st.sampled_from([0.0, 0.1, 1e-3]), prompts_ids)
def test_averages_are_those_of_probabilities_and_bounds_hold(paths, tolerance, asked):
    strategies = [exact(scorable(paths, ids), tolerance=tolerance) for ids in asked]
    found = average_masses([run(strategy).mass for strategy in strategies])
    expected = np.mean([np.exp(truth(paths, ids)) for ids in asked], axis=0)
    assert (np.exp(found.lower) <= expected + 1e-12).all()
    assert (expected <= np.exp(found.upper) + 1e-12).all()
    left = expected.sum() - np.exp(found.lower).sum()
    assert left <= found.unresolved + 1e-12
    if tolerance == 0.0:
        np.testing.assert_allclose(np.exp(found.estimate), expected, atol=1e-12)
