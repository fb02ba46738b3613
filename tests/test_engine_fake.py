"""The engine without a model: scripts, functions, counts."""

import re

import numpy as np
import pytest

from classify.engines import FakeEngine, generate, read
from classify.engines.decoding import pick
from classify.errors import ScriptEndedError
from classify.tracking import (
    ReadRequest,
    TokenTree,
    TrackedGeneration,
    TrackedRequest,
)

TREE = TokenTree([(1,), (2,)])
EDGES = np.array([np.nan, -1.0, -2.0])
READ = ReadRequest((0,), TREE, (0,))


def test_a_script_is_told_in_order():
    generation = TrackedGeneration((1,), {1: [-0.5]})
    engine = FakeEngine(script=[EDGES, (generation,), EDGES])
    np.testing.assert_array_equal(read(engine, [READ])[0], EDGES)
    assert generate(engine, [TrackedRequest((0,), [1])]) == [(generation,)]
    np.testing.assert_array_equal(read(engine, [READ])[0], EDGES)


def test_a_script_ends():
    engine = FakeEngine(script=[EDGES])
    message = (
        "The script of this FakeEngine has ended after 1 answers: give it one more for "
        "ReadRequest."
    )
    with pytest.raises(ScriptEndedError, match=f"^{re.escape(message)}$"):
        read(engine, [READ, READ])


def test_a_script_must_fit_the_requests():
    engine = FakeEngine(script=[EDGES])
    with pytest.raises(ScriptEndedError, match=r"does not fit TrackedRequest\.$"):
        generate(engine, [TrackedRequest((0,))])


def test_requests_are_counted_and_kept():
    engine = FakeEngine.uniform(4, window=2)
    tree = TokenTree([(1, 2), (1, 3), (2,)])
    requests = [ReadRequest((0,), tree, (0, 1)), TrackedRequest((0,)), READ]
    for request in requests:
        engine.submit(request)
    assert (engine.n_requests, engine.n_reads) == (3, 3)
    assert engine.requests == requests
    assert [len(engine.poll()) for _ in range(3)] == [2, 1, 0]


def test_uniform():
    [edges] = read(FakeEngine.uniform(8), [READ])
    np.testing.assert_allclose(edges[1:], -np.log(8))


def test_a_function_of_the_wrong_length_is_an_error():
    engine = FakeEngine.from_function(lambda ids: np.zeros(3), 4)
    message = r"^next_logprobs must return shape \(4,\)\. Got \(3,\) instead\.$"
    with pytest.raises(ValueError, match=message):
        read(engine, [READ])


def test_close_drops_what_waits():
    engine = FakeEngine.uniform(4)
    engine.submit(READ)
    engine.close()
    assert engine.poll() == []
    assert repr(engine) == "FakeEngine(vocab_size=4)"


def test_pick_never_takes_the_impossible():
    logprobs = np.array([-np.inf, 0.0, -np.inf])
    for uniform in (0.0, 0.5, 1.0 - 1e-16):
        assert pick(logprobs, 1.0, uniform) == 1
    # Dividing by so little overflows unless the maximum goes first.
    assert pick([-1.0, -2.0], 1e-300, 0.9) == 0
