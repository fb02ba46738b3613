"""The columns of a request and of an answer; no engine is started."""

import re
from types import SimpleNamespace

import pytest

from classify.engines.vllm.parameters import columns, top_logprobs, tracked_logprobs
from classify.engines.vllm.wire import EXTRA_ARGS_KEY, Wanted
from classify.errors import EngineError


def completion(steps, n_tokens=None):
    """A completion as vLLM returns it: for each step its (token, value) columns."""
    starts = [sum(len(step) for step in steps[:at]) for at in range(len(steps))]
    return SimpleNamespace(
        token_ids=[step[0][0] for step in steps][:n_tokens],
        logprobs=SimpleNamespace(
            token_ids=[token for step in steps for token, _ in step],
            logprobs=[value for step in steps for _, value in step],
            start_indices=starts,
            end_indices=[
                start + len(step) for start, step in zip(starts, steps, strict=True)
            ],
        ),
    )


def test_columns_are_taken_apart():
    answer = completion(
        [
            [(9, -0.5), (2, 0.0), (9, -0.5), (4, -2.0), (7, -3.0), (8, -4.0)],
            [(4, -1.5), (2, 0.0), (5, -0.1), (4, -1.5), (7, -3.5), (8, -4.5)],
        ]
    )
    assert tracked_logprobs(answer) == {7: [-3.0, -3.5], 8: [-4.0, -4.5]}
    assert top_logprobs(answer) == ({9: -0.5, 4: -2.0}, {5: -0.1, 4: -1.5})


@pytest.mark.parametrize(
    ("answer", "n_tokens", "n_steps"),
    [
        # Stock columns: no marker, whose value is 0 (a log-probability never is).
        (completion([[(9, -0.5), (4, -2.0)]]), 1, 1),
        (completion([[(9, -0.5)]]), 1, 1),
        # Steps that were lost under speculation.
        (
            SimpleNamespace(
                token_ids=[9, 9, 9],
                logprobs=completion([[(9, -0.5), (0, 0.0), (4, -2.0)]]).logprobs,
            ),
            3,
            1,
        ),
    ],
    ids=["stock columns", "too few columns", "lost steps"],
)
def test_answers_that_are_not_ours_are_an_error(answer, n_tokens, n_steps):
    message = (
        f"vLLM answered {n_tokens} tokens with {n_steps} steps of log-probabilities "
        "that are not the tracked ones: this version of vLLM loses them. Please report "
        "it with its version."
    )
    with pytest.raises(EngineError, match=f"^{re.escape(message)}$"):
        tracked_logprobs(answer)


def test_there_is_room_for_every_column():
    wanted = Wanted((5, 6), top=2)
    room = columns(wanted, 2, {"mine": 1})
    assert (room["logprobs"], room["flat_logprobs"]) == (1 + 2 + 2, True)
    assert room["extra_args"].keys() == {"mine", EXTRA_ARGS_KEY}
    assert Wanted.from_extra_args(room["extra_args"]) == wanted
