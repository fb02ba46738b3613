"""Parameters of a wrong type or value: one form of error, before any model call."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset

from classify import (
    PromptTemplate,
    Verbalizer,
    ZeroShotClassifier,
    ZeroShotMultiLabelClassifier,
    track,
)
from classify.calibration import LabelCalibrator, PriorShift
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.engines import FakeEngine
from classify.errors import ConfigError, InputError, LabelError, PromptError
from classify.parameters import check_parameters, number, one_of, optional
from classify.wording import NO_VALUE, spelled_by
from tests.posteriors import scores_of
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine

LOG_PROBA = np.log([[0.6, 0.4], [0.3, 0.7]])
TEXTS = ["My parcel?", "A wrong invoice."]


def raises(message: str, error=ConfigError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def make(**options: Any) -> ZeroShotClassifier:
    defaults: dict[str, Any] = {
        "engine": hashed_engine(len(byte_level())),
        "tokenizer": byte_level(),
        "prompt": PromptTemplate("{text}\nTopic:", chat=False),
    }
    return ZeroShotClassifier(["billing", "shipping"], **defaults | options)


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("model", 7, "a string"),
        ("engine", 7, "the name of an engine, or an Engine"),
        ("verbalizer", "upper", "a Verbalizer"),
        ("strategy", "best", "one of 'exact', 'generate', 'reason'"),
        ("strategy", ["exact"], "one of 'exact', 'generate', 'reason'"),
        ("tolerance", "x", "a number, from 0 (exact) to below 1"),
        ("tolerance", None, "a number, from 0 (exact) to below 1"),
        ("tolerance", 1.0, "a number, from 0 (exact) to below 1"),
        ("tolerance", float("nan"), "a number, from 0 (exact) to below 1"),
        ("dtype", np.float32, "a string"),
        ("device", 0, "a string"),
        ("batch_size", 0, "'auto', or a whole number, at least 1"),
        ("batch_size", 2.5, "'auto', or a whole number, at least 1"),
        ("batch_size", True, "'auto', or a whole number, at least 1"),
        ("revision", 3, "a string, or None"),
        ("trust_remote_code", "no", "a boolean"),
        ("tokenizer", "gpt2", "a Tokenizer, or None"),
        ("speculation", 4, "a string or a mapping, or None"),
        ("engine_options", ["a"], "a mapping, or None"),
    ],
)
def test_the_estimator(name, value, must):
    clf = make(**{name: value})
    for use in (lambda: clf.fit(TEXTS), lambda: clf.predict(TEXTS)):
        with raises(
            f"The {name!r} parameter of ZeroShotClassifier must be {must}. Got "
            f"{value!r} instead."
        ):
            use()
    if isinstance(clf.engine, FakeEngine):
        assert clf.engine.n_requests == 0


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("tolerance", 2, "a number, from 0 (exact) to below 1"),
        ("device", 0, "a string"),
        ("tokenizer", "gpt2", "a Tokenizer, or None"),
    ],
)
def test_an_error_names_the_class_that_has_the_parameter(name, value, must):
    def message(owner):
        return (
            f"The {name!r} parameter of {owner} must be {must}. Got {value!r} instead."
        )

    clf = ZeroShotMultiLabelClassifier(["a", "b"], **{name: value})
    with raises(message("ZeroShotMultiLabelClassifier")):
        clf.predict(TEXTS)
    if name != "tolerance":
        with raises(message("track")):
            track(TEXTS, ["a", "b"], **{name: value})


@pytest.mark.parametrize(
    ("use", "message", "error"),
    [
        (
            lambda: make(prompt=7).predict(TEXTS),
            (
                "The 'template' parameter of PromptTemplate must be a string, or None. "
                "Got "
                "7 instead."
            ),
            PromptError,
        ),
        (
            lambda: PromptTemplate(answer_prefix=None),
            (
                "The 'answer_prefix' parameter of PromptTemplate must be a string. Got "
                "None instead."
            ),
            PromptError,
        ),
        (
            lambda: PromptTemplate(chat=["auto"]),
            (
                "The 'chat' parameter of PromptTemplate must be one of True, False, "
                "'auto'. Got ['auto'] instead."
            ),
            PromptError,
        ),
        (
            lambda: Verbalizer(case_variants="yes"),
            (
                "The 'case_variants' parameter of Verbalizer must be a boolean. Got "
                "'yes' "
                "instead."
            ),
            LabelError,
        ),
        (
            lambda: LabelCalibrator(["affine"]).fit(LOG_PROBA),
            (
                "The 'method' parameter of LabelCalibrator must be one of 'none', "
                "'prior_matching', 'batch', 'content_free', 'domain', 'pmi', "
                "'temperature', 'temperature_by_count', 'bias', 'affine', 'vector', "
                "'matrix', 'isotonic', "
                "'auto'. "
                "Got ['affine'] instead."
            ),
            ConfigError,
        ),
        (
            lambda: LabelCalibrator(l2_bias="strong").fit(LOG_PROBA),
            (
                "The 'l2_bias' parameter of LabelCalibrator must be a number, at least "
                "0. "
                "Got 'strong' instead."
            ),
            ConfigError,
        ),
        (
            lambda: LabelCalibrator(random_state="x").fit(LOG_PROBA),
            (
                "The 'random_state' parameter of LabelCalibrator must be a whole "
                "number, "
                "at least 0, or None. Got 'x' instead."
            ),
            ConfigError,
        ),
        (
            lambda: LabelCalibrator(force=1).fit(LOG_PROBA),
            (
                "The 'force' parameter of LabelCalibrator must be a boolean. Got 1 "
                "instead."
            ),
            ConfigError,
        ),
        (
            lambda: PriorShift("uniform", force=True, tol=None).fit(LOG_PROBA),
            (
                "The 'tol' parameter of PriorShift must be a number, at least 0. Got "
                "None "
                "instead."
            ),
            ConfigError,
        ),
        (
            lambda: SelectiveClassifier("low").fit(LOG_PROBA, [0, 1]),
            (
                "The 'target_risk' parameter of SelectiveClassifier must be a number, "
                "between 0 and 1, both excluded. Got 'low' instead."
            ),
            ConfigError,
        ),
        (
            lambda: SplitConformalSets("90%").conformalize(LOG_PROBA, [0, 1]),
            (
                "The 'confidence_level' parameter of SplitConformalSets must be a "
                "number, "
                "between 0 and 1, both excluded. Got '90%' instead."
            ),
            ConfigError,
        ),
    ],
    ids=range(11),
)
def test_recipes_calibrators_and_decisions(use, message, error):
    with raises(message, error):
        use()


def test_numbers_of_numpy_are_numbers():
    clf = make(tolerance=np.float64(0.5), batch_size=np.int64(3))
    assert clf.predict(TEXTS).shape == (2,)


def test_commands_name_the_option():
    checked = {"max_size": ("x", optional(number("above 0", lambda size: size > 0)))}

    def as_option(name: str, value: object) -> str:
        assert value is NO_VALUE
        return f"--{name.replace('_', '-')}"

    with (
        spelled_by(as_option),
        raises("--max-size must be a number, above 0, or None. Got 'x' instead."),
    ):
        check_parameters("Thing", **checked)


def test_what_is_allowed_passes():
    check_parameters(
        "Thing", a=("x", one_of("x", "y")), b=(None, optional(one_of("x")))
    )


# ------------------------------------------------------------- tables of other kinds


@pytest.mark.parametrize(
    "container",
    [
        pa.array,
        lambda texts: pa.chunked_array([texts[:1], texts[1:]]),
        pd.Series,
        lambda texts: Dataset.from_dict({"text": texts})["text"],
        lambda texts: pa.table({"text": texts}),
        lambda texts: Dataset.from_dict({"text": texts}),
        lambda texts: pd.DataFrame({"text": texts}),
    ],
    ids=range(7),
)
def test_texts_of_other_libraries(container):
    expected = make().predict_proba(TEXTS)
    np.testing.assert_array_equal(make().predict_proba(container(TEXTS)), expected)


@pytest.mark.parametrize("table", [pa.table, Dataset.from_dict])
def test_tables_of_other_libraries_become_frames(table):
    found = make().classify_frame(table({"id": [1, 2], "text": TEXTS}))
    expected = make().classify_frame(pd.DataFrame({"id": [1, 2], "text": TEXTS}))
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("given", [pd.Series(TEXTS), TEXTS, pa.array(TEXTS), None])
def test_what_is_no_table(given):
    with raises(
        "classify_frame takes a table with named columns, such as a DataFrame. Got a "
        f"value of type {type(given).__name__} instead: use "
        "pandas.DataFrame({'text': texts}).",
        InputError,
    ):
        make().classify_frame(given)


# ------------------------------------------------------------------ scores as a table


def test_scores_as_a_frame():
    scores = make(tolerance=0.0).label_logprobs(TEXTS)
    frame = scores.to_frame()
    expected = make(tolerance=0.0).classify_frame(
        pd.DataFrame({"text": TEXTS}), probabilities=True
    )
    pd.testing.assert_frame_equal(
        frame, expected.drop(columns="text"), check_dtype=False
    )
    mass = scores.label_mass.mean()
    assert (
        repr(scores) == f"LabelLogprobs(2 texts, 2 labels, mean label mass {mass:.3g})"
    )


def test_scores_without_mass_and_without_texts_as_a_frame():
    nothing = np.full((1, 2), -np.inf)
    frame = scores_of(np.vstack([LOG_PROBA, nothing]), ["a", "b"]).to_frame()
    assert frame["label"].tolist()[:2] == ["a", "b"]
    assert frame["label"].isna().tolist() == [False, False, True]
    assert frame["p(a)"].isna().tolist() == [False, False, True]
    assert frame["label_mass"].round(6).tolist() == [1.0, 1.0, 0.0]
    empty = scores_of(LOG_PROBA[:0], ["a", "b"])
    assert repr(empty) == "LabelLogprobs(0 texts, 2 labels)"
    assert empty.to_frame().shape == (0, 7)
