"""What speculation can be asked for, and what is said where it cannot."""

import dataclasses
import functools
import math
import re
from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd
import pytest

from classify import ZeroShotClassifier
from classify.demo import tickets_csv
from classify.engines.speculation import SpeculationFigures
from classify.engines.vllm.speculation import (
    check_installed,
    method_of,
    speculation_figures,
    speculative_config,
)
from classify.errors import ConfigError

METHODS = (
    "labels, ngram, suffix, draft_model, eagle, eagle3, medusa, mlp_speculator, mtp"
)


def test_nothing_asked_is_nothing_configured():
    assert speculative_config(None) is None


def test_a_name_is_a_method_with_our_defaults():
    assert speculative_config("ngram") == {
        "method": "ngram",
        "num_speculative_tokens": 5,
        "prompt_lookup_min": 2,
        "prompt_lookup_max": 4,
    }
    assert speculative_config("suffix") == {"method": "suffix"}
    assert speculative_config("mtp")["num_speculative_tokens"] == 1


def test_what_is_said_wins_over_the_defaults():
    asked = {"method": "ngram", "prompt_lookup_max": 9, "num_speculative_tokens": 2}
    assert speculative_config(asked) == {**asked, "prompt_lookup_min": 2}


def test_a_mapping_is_left_as_it_is():
    asked = {"method": "eagle", "model": "head"}
    speculative_config(asked)
    assert asked == {"method": "eagle", "model": "head"}


def test_labels_is_a_drafter_of_this_package():
    config = speculative_config("labels")
    assert config["method"] == "custom_class"
    module, name = config["model"].rsplit(".", 1)
    assert (module, name) == ("classify.engines.vllm.drafting", "LabelDrafter")
    assert config["num_speculative_tokens"] == 5


def test_our_names_come_back_from_vllms_configuration():
    for method in ("labels", "ngram"):
        vllms = SimpleNamespace(**{"model": None, **speculative_config(method)})
        assert method_of(vllms) == method
    theirs = SimpleNamespace(method="custom_class", model="their.Drafter")
    assert method_of(theirs) == "custom_class"


def test_vllms_own_configuration_goes_through_unchecked():
    theirs = {"method": "one of next year", "anything": 1}
    assert speculative_config({"speculative_config": theirs}) == theirs


ERRORS = {
    "unknown": (
        "lables",
        (
            f"The speculation method must be one of {METHODS}. Got 'lables'. For any "
            "other of vLLM's, give {speculative_config: {…}}."
        ),
    ),
    "no method": (
        {"num_speculative_tokens": 3},
        (
            f"The speculation method must be one of {METHODS}. Got None. For any "
            "other of vLLM's, give {speculative_config: {…}}."
        ),
    ),
    "no model": (
        "eagle",
        (
            "Speculation by 'eagle' needs 'model', a folder or hub id: "
            "speculation={'method': 'eagle', 'model': '…'}."
        ),
    ),
    "empty model": (
        {"method": "draft_model", "model": ""},
        (
            "Speculation by 'draft_model' needs 'model', a folder or hub id: "
            "speculation={'method': 'draft_model', 'model': '…'}."
        ),
    ),
    "no tokens": (
        {"method": "ngram", "num_speculative_tokens": 0},
        "num_speculative_tokens must be an integer from 1. Got 0.",
    ),
    "half a token": (
        {"method": "ngram", "num_speculative_tokens": 1.5},
        "num_speculative_tokens must be an integer from 1. Got 1.5.",
    ),
    "true as a number": (
        {"method": "labels", "num_speculative_tokens": True},
        "num_speculative_tokens must be an integer from 1. Got True.",
    ),
    "labels with a model": (
        {"method": "labels", "model": "head"},
        "Speculation by 'labels' drafts without a model: leave 'model' out.",
    ),
    "a number": (
        5,
        "speculation must be the name of a method, or a mapping with 'method'. Got 5.",
    ),
    "no configuration": (
        {"speculative_config": None},
        "speculative_config must be a mapping with vLLM's own keys. Got None.",
    ),
    "two configurations": (
        {"speculative_config": {}, "method": "ngram", "model": "x"},
        (
            "speculation has speculative_config and also method, model: put "
            "everything into speculative_config, or nothing."
        ),
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_is_refused(case):
    asked, message = ERRORS[case]
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        speculative_config(asked)


@pytest.mark.slow
def test_methods_that_the_installed_vllm_lacks_are_refused():
    literals = pytest.importorskip("vllm.config.speculative")
    for method in ("labels", "ngram", "eagle"):
        asked = {"method": method} | ({"model": "head"} if method == "eagle" else {})
        check_installed(speculative_config(asked))
    check_installed({"model": "a model that vLLM knows to draft"})
    with pytest.raises(ConfigError) as caught:
        check_installed({"method": "crystal_ball"})
    known = re.findall(r"'(\w+)'", str(literals.SpeculativeMethod))
    assert str(caught.value) == (
        "The installed vLLM has no speculation method 'crystal_ball'; it has "
        f"{', '.join(sorted(set(known)))}. Upgrade vLLM, or use another."
    )


def counter(name, value):
    return SimpleNamespace(name=f"vllm:{name}", value=value)


def test_figures_are_added_up_from_vllms_counters():
    figures = speculation_figures(
        [
            counter("num_preemptions", 7),
            counter("spec_decode_num_drafts", 4.0),
            SimpleNamespace(name="vllm:spec_decode_num_accepted_tokens_per_pos"),
            counter("spec_decode_num_draft_tokens", 12.0),
            counter("spec_decode_num_accepted_tokens", 6.0),
        ]
    )
    assert figures == SpeculationFigures(4, 12, 6)
    assert figures.acceptance_rate == 0.5
    assert figures.mean_accepted_length == 2.5


def test_figures_before_the_first_draft():
    figures = speculation_figures([])
    assert figures == SpeculationFigures(0, 0, 0)
    assert math.isnan(figures.acceptance_rate)
    assert figures.mean_accepted_length == 1.0


# What it saves: measured a text at a time, so that a pass serves one request

LABELS = [
    "account access problem by phone",
    "account access problem by mail",
    "billing question about an old invoice",
    "billing question about a refund",
    "shipping delay of a parcel abroad",
    "shipping delay of a parcel at home",
]


class Measured(NamedTuple):
    labels: list[str]
    n_passes: int
    mean_accepted_length: float


@pytest.fixture(scope="session")
def measured(vllm_engines):
    """Measure an engine by its name, once: the modules of an engine alternate."""
    texts = list(pd.read_csv(tickets_csv())["text"][:12])
    return functools.cache(lambda name: measure(vllm_engines(name), texts))


def measure(engine, texts):
    """Generate a label for each text, and count passes and accepted tokens."""
    clf = ZeroShotClassifier(LABELS, engine=engine, strategy="generate")
    passes, before = n_passes(engine), engine.speculation_figures()
    labels = [str(clf.predict([text])[0]) for text in texts]
    passes, after = n_passes(engine) - passes, engine.speculation_figures()
    if before is None:
        return Measured(labels, passes, 1.0)
    made = SpeculationFigures(
        *(
            getattr(after, field.name) - getattr(before, field.name)
            for field in dataclasses.fields(SpeculationFigures)
        )
    )
    return Measured(labels, passes, made.mean_accepted_length)


def n_passes(engine):
    [counted] = [
        metric
        for metric in engine.llm.get_metrics()
        if metric.name == "vllm:iteration_tokens_total"
    ]
    return counted.count


# Each names the engine that it runs beside, though `measured` gives the answers.


@pytest.mark.parametrize("vllm_engine", ["vllm demo"], indirect=True)
def test_without_speculation_a_token_is_a_pass(vllm_engine, measured):
    plainly = measured("vllm demo")
    assert plainly.n_passes >= 5 * len(plainly.labels)


@pytest.mark.parametrize("vllm_engine", ["vllm demo, labels"], indirect=True)
def test_the_drafter_of_labels_saves_passes(vllm_engine, measured):
    ours, plainly = measured("vllm demo, labels"), measured("vllm demo")
    assert ours.labels == plainly.labels
    assert ours.n_passes <= 0.6 * plainly.n_passes


@pytest.mark.parametrize("vllm_engine", ["vllm demo, ngram"], indirect=True)
def test_the_drafter_of_labels_saves_more_than_a_look_up(vllm_engine, measured):
    ngram, ours = measured("vllm demo, ngram"), measured("vllm demo, labels")
    assert ngram.labels == ours.labels
    assert 1.0 < ngram.mean_accepted_length < ours.mean_accepted_length
    assert ours.n_passes < ngram.n_passes < measured("vllm demo").n_passes
