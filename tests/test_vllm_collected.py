"""Log-probabilities kept as arrays hold what vLLM's lists hold."""

from types import SimpleNamespace

import numpy as np
import pytest

from classify.engines.vllm.parameters import steps_in, tracked_logprobs

pytest.importorskip("vllm")

ROWS = [
    ([7, 1, 4, 5, 6], [-0.5, 0.0, -0.25, -2.0, -3.0], 2),
    ([8, 1, 9, 5, 6], [-1.5, 0.0, -0.75, -4.0, -5.0], 11),
]


def both():
    from vllm.logprobs import FlatLogprobs, append_logprobs_for_next_position

    from classify.engines.vllm.collected import ArrayLogprobs

    ours, theirs = ArrayLogprobs(), FlatLogprobs()
    for ids, values, rank in ROWS:
        ours.add(np.array(ids), np.array(values, dtype=np.float32), rank)
        texts = [None] * len(ids)
        append_logprobs_for_next_position(
            theirs, ids, values, texts, rank, len(ids) - 1
        )
    return ours, theirs


def test_they_are_read_as_the_lists_are():
    ours, theirs = both()
    assert len(ours) == len(theirs) == 2
    for name in (
        "start_indices", "end_indices", "token_ids", "logprobs", "ranks",
        "decoded_tokens",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name)
    assert list(ours) == list(theirs)
    assert ours[1] == theirs[1]
    assert list(ours[-1:]) == list(theirs[-1:])


def test_their_tracked_values_are_those_of_the_lists():
    expected = {5: [-2.0, -4.0], 6: [-3.0, -5.0]}
    for flat in both():
        completion = SimpleNamespace(logprobs=flat, token_ids=[7, 8])
        assert tracked_logprobs(completion) == expected
        assert [list(ids) for ids, _ in steps_in(flat)] == [ids for ids, *_ in ROWS]


def test_a_step_outlasts_the_batch_that_it_came_with():
    ours, _ = both()
    ids, values = np.array([3, 0]), np.array([-1.0, 0.0])
    ours.add(ids, values, 1)
    ids[:], values[:] = 9, 9.0
    assert ours[2].keys() == {3, 0}
