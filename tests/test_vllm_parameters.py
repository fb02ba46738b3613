"""Parameters and answers of people's own LLM; no engine is started."""

import re
from types import SimpleNamespace

import pytest

from classify.engines.vllm import (
    install_tracking,
    top_logprobs,
    tracked_logprobs,
    tracked_sampling_params,
)
from classify.errors import EngineError, InputError

REFUSED = {
    "logprobs": (
        {"logprobs": 3},
        (
            "logprobs cannot be given beside track_token_ids: use top_logprobs for the "
            "likeliest tokens and track_token_ids for chosen ones."
        ),
    ),
    "upstream's ids": (
        {"logprob_token_ids": [3]},
        (
            "logprob_token_ids cannot be given beside track_token_ids: use "
            "top_logprobs for the likeliest tokens and track_token_ids for chosen ones."
        ),
    ),
    "a negative number": (
        {"top_logprobs": -1},
        "top_logprobs must be at least 0. Got -1.",
    ),
    "a negative id": (
        {"track_token_ids": [3, -7]},
        "track_token_ids must hold token ids, integers from 0. Got -7.",
    ),
    "text": (
        {"track_token_ids": ["yes"]},
        "track_token_ids must hold token ids, integers from 0. Got 'yes'.",
    ),
    "a fraction": (
        {"track_token_ids": [1.0]},
        "track_token_ids must hold token ids, integers from 0. Got 1.0.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_refused(case):
    options, message = REFUSED[case]
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        tracked_sampling_params(**options)


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


def test_an_answer_without_tracking_is_refused():
    message = (
        "This request tracked nothing: make its parameters with "
        "tracked_sampling_params(track_token_ids=[…])."
    )
    for logprobs in (None, [{3: -1.0}]):
        answer = SimpleNamespace(token_ids=[3], logprobs=logprobs)
        for take in (tracked_logprobs, top_logprobs):
            with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
                take(answer)


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
def test_answers_of_an_llm_without_our_tracking_are_an_error(answer, n_tokens, n_steps):
    message = (
        f"vLLM answered {n_tokens} tokens with {n_steps} steps of log-probabilities "
        "that are not the tracked ones: tracking is not installed in this LLM. Make it "
        "with tracked_llm(…)."
    )
    with pytest.raises(EngineError, match=f"^{re.escape(message)}$"):
        tracked_logprobs(answer)


def test_an_id_outside_the_vocabulary_is_named():
    answer = completion([[(9, -0.5), (0, 0.0), (4, -2.0), (70_000, float("nan"))]])
    message = (
        "track_token_ids holds 70000, which is outside the vocabulary of the model: "
        "leave it out."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        tracked_logprobs(answer)


@pytest.mark.parametrize("n_top", [4, 5])
def test_more_top_tokens_than_there_are_are_an_error(n_top):
    columns = [(1, -0.1), (n_top, 0.0), (1, -0.1), (0, -3.0), (2, -4.0)]
    columns += [(3, float("nan"))] * (n_top - 3)
    answer = completion([[*columns, (2, -4.0)]])
    message = (
        f"top_logprobs must be at most the vocabulary size, 3. Got {n_top} instead."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        top_logprobs(answer)
    assert tracked_logprobs(answer) == {2: [-4.0]}


@pytest.mark.parametrize("extension", ["", "their.Extension"])
def test_an_llm_without_the_extension_is_refused(extension):
    config = SimpleNamespace(
        parallel_config=SimpleNamespace(worker_extension_cls=extension)
    )
    llm = SimpleNamespace(llm_engine=SimpleNamespace(vllm_config=config))
    message = (
        "This LLM has no tracking extension: make it with tracked_llm(…), or with "
        "LLM(worker_extension_cls='classify.engines.vllm.worker.TrackingExtension', "
        "…)."
    )
    with pytest.raises(EngineError, match=f"^{re.escape(message)}$"):
        install_tracking(llm)


@pytest.mark.slow
def test_parameters_leave_room_for_every_column():
    pytest.importorskip("vllm")
    parameters = tracked_sampling_params(
        track_token_ids=[5, 6, 5], top_logprobs=2, temperature=0.3, max_tokens=9
    )
    assert parameters.logprobs == 1 + 2 + 2
    assert (parameters.temperature, parameters.max_tokens) == (0.3, 9)
    kept = tracked_sampling_params(track_token_ids=[1], extra_args={"mine": 1})
    assert kept.extra_args["mine"] == 1
    off = tracked_sampling_params(top_logprobs=3)
    assert (off.logprobs, off.extra_args) == (3, None)
    assert tracked_sampling_params().logprobs is None
