"""Ensembles of prompts: the average of what each of them says."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classify import PromptTemplate, ZeroShotClassifier
from classify.config import Task, task_yaml
from classify.errors import ConfigError, PromptError
from classify.prompts.looks import dated
from classify.scoring.masses import average_shares
from classify.trie import LabelMass

LABELS = ["billing", "shipping", "refund"]
TEXTS = ["My invoice is wrong and nobody answers.", "Where is my parcel?"]
FIRST = PromptTemplate("{text}\nTopic:", chat=False)
OTHERS = (
    PromptTemplate(n_orders=2, answer="both"),
    PromptTemplate("{labels}: {text} ->", chat=False, examples=[("Late", "shipping")]),
)
ENSEMBLE = PromptTemplate("{text}\nTopic:", chat=False, ensemble=OTHERS)


def refused(message, kind=PromptError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def test_posteriors_are_the_mean_of_those_of_each_prompt():
    clf = ZeroShotClassifier(LABELS, prompt=ENSEMBLE, tolerance=0.0)
    engine = clf.load_engine()
    scores = clf.label_logprobs([*TEXTS, TEXTS[0]])
    alone = [
        ZeroShotClassifier(
            LABELS, engine=engine, prompt=each, tolerance=0.0
        ).label_logprobs(TEXTS)
        for each in (FIRST, *OTHERS)
    ]
    mean = np.mean([each.proba for each in alone], axis=0)
    np.testing.assert_allclose(scores.proba[:2], mean, atol=1e-6)
    np.testing.assert_allclose(scores.proba[2], mean[0], atol=1e-6)
    masses = np.mean([each.label_mass for each in alone], axis=0)
    np.testing.assert_allclose(scores.label_mass[:2], masses, rtol=1e-5)
    assert (scores.lower <= scores.values).all()
    assert (scores.values <= scores.upper).all()
    assert scores.n_reads[0] == sum(each.n_reads[0] for each in alone)
    # Six prompts: one, two orders in two forms, and one.
    assert set((scores.agreement * 6).round(6)) <= {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}
    frame = pd.DataFrame({"text": TEXTS[:1]})
    assert "agreement" in clf.classify_frame(frame).columns


_values = arrays(np.float64, (2, 3, 2), elements=st.floats(0.01, 1.0))


@given(_values, arrays(np.float64, (2, 3), elements=st.floats(0, 1)))
def test_bounds_hold_wherever_the_truth_lies(ends, where):
    ends = np.sort(ends / 3, axis=2)
    lower, upper = ends[..., 0], ends[..., 1]
    true = lower + where * (upper - lower)
    gaps = (upper - lower).sum(axis=1)
    masses = [
        LabelMass(np.log(true[at]), np.log(lower[at]), np.log(upper[at]), gaps[at])
        for at in range(2)
    ]
    found = average_shares(masses)
    shares = true / true.sum(axis=1, keepdims=True)
    slow = shares.mean(axis=0) * true.sum(axis=1).mean()
    np.testing.assert_allclose(np.exp(found.estimate), slow, rtol=1e-9)
    assert found.most == pytest.approx(upper.sum(axis=1).mean())
    # The bounds do not depend on the estimate: they hold for any truth within.
    middle = [
        mass._replace(estimate=np.log((lower[at] + upper[at]) / 2))
        for at, mass in enumerate(masses)
    ]
    bounds = average_shares(middle)
    assert (np.exp(bounds.lower) <= slow * (1 + 1e-9)).all()
    assert (slow * (1 - 1e-9) <= np.exp(bounds.upper)).all()


def test_a_prompt_without_mass_has_no_say():
    nothing = np.full(2, -np.inf)
    some = np.log([0.1, 0.3])
    masses = [LabelMass(each, each, each, 0.0) for each in (nothing, some)]
    found = average_shares(masses)
    np.testing.assert_allclose(np.exp(found.estimate), [0.05, 0.15])
    assert np.isneginf(average_shares(masses[:1]).estimate).all()


def test_a_fingerprint_holds_every_prompt():
    def fingerprint(prompt):
        return ZeroShotClassifier(LABELS, prompt=prompt).scorer().fingerprint()

    whole = fingerprint(ENSEMBLE)
    assert fingerprint(FIRST)["prompt"] != whole["prompt"]
    changed = PromptTemplate(FIRST.template, chat=False, ensemble=OTHERS[::-1])
    assert fingerprint(changed)["prompt"] != whole["prompt"]


def test_task_files_list_the_prompts(tmp_path):
    task = Task.parse({"labels": LABELS, "prompt": ENSEMBLE})
    (tmp_path / "task.yaml").write_text(task_yaml(task))
    found = Task.from_yaml(tmp_path / "task.yaml").prompt
    assert [each.template for each in found.ensemble] == [None, OTHERS[1].template]
    scores = [
        ZeroShotClassifier(LABELS, prompt=each).scorer().fingerprint()["prompt"]
        for each in (ENSEMBLE, found)
    ]
    assert scores[0] == scores[1]
    for written in ([{"tmplate": "x"}], ["{text}"], [5], 5):
        with refused(
            "'prompt.ensemble' must be a list of prompts, each a mapping with the keys "
            f"of prompt. Got {written!r} instead.",
            ConfigError,
        ):
            Task.parse({"prompt": {"ensemble": written}})


def test_every_prompt_keeps_the_date_of_a_job():
    found = dated(ENSEMBLE, "2026-11-29")
    dates = [each.template_arguments for each in (found, *found.ensemble)]
    assert dates == [None, {"strftime_now": "2026-11-29"}, None]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (
            [ENSEMBLE],
            (
                "A prompt in ensemble cannot be an ensemble itself: give all prompts "
                "in one ensemble."
            ),
        ),
        (
            [PromptTemplate("{title} {text}")],
            (
                "A prompt in ensemble shows the column 'title', and the first prompt "
                "does not: all must show the same columns."
            ),
        ),
        (
            [PromptTemplate("auto")],
            (
                "A prompt in ensemble cannot have template='auto': choose its template "
                "first, with classify tune."
            ),
        ),
        (
            ["{text}"],
            (
                "The 'ensemble' parameter of PromptTemplate must be a sequence of "
                "PromptTemplate. Got ['{text}'] instead."
            ),
        ),
    ],
)
def test_what_is_no_ensemble_is_refused(prompts, message):
    with refused(message):
        PromptTemplate(ensemble=prompts)


def test_thoughts_are_of_one_prompt():
    clf = ZeroShotClassifier(LABELS, prompt=ENSEMBLE, strategy="reason")
    with refused(
        "ensemble cannot be combined with strategy='reason', which uses one prompt and "
        "reads the label's words: remove one of the two.",
        ConfigError,
    ):
        clf.scorer()
