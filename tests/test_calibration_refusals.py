"""What `LabelCalibrator` refuses, and what it says then."""

import re

import numpy as np
import pytest

from classify.calibration import LabelCalibrator
from classify.errors import ConfigError, DataError, InputError, LabelError
from tests.posteriors import NAMES, posteriors, scores_of


@pytest.fixture(scope="module")
def drawn():
    return posteriors(240, 4)


GOOD = np.log([[0.5, 0.3, 0.2]] * 6)
Y = ["a", "b", "c", "a", "b", "c"]


def changed(row, column, value):
    array = GOOD.copy()
    array[row, column] = value
    return array


REFUSED = [
    (
        {"method": "platt"},
        (GOOD,),
        ConfigError,
        (
            "The 'method' parameter of LabelCalibrator must be one of 'none', "
            "'prior_matching', 'batch', 'content_free', 'domain', 'pmi', "
            "'temperature', 'temperature_by_count', 'bias', 'affine', 'vector', "
            "'matrix', 'isotonic', 'auto'. "
            "Got 'platt' instead."
        ),
    ),
    (
        {"cv": 1},
        (GOOD,),
        ConfigError,
        (
            "The 'cv' parameter of LabelCalibrator must be a whole number, at least 2. "
            "Got 1 instead."
        ),
    ),
    (
        {"floor": 0.0},
        (GOOD,),
        ConfigError,
        (
            "The 'floor' parameter of LabelCalibrator must be a number, at most -1 "
            "(nats). Got 0.0 instead."
        ),
    ),
    (
        {"method": "affine"},
        (GOOD,),
        ConfigError,
        (
            "method='affine' needs labelled texts: give y, or use "
            "method='prior_matching', which needs none."
        ),
    ),
    (
        {"method": "pmi"},
        (GOOD,),
        ConfigError,
        (
            "method='pmi' needs the scores of probe texts: make them with "
            "classify.prompts.probes, score them like any text, and give probes."
        ),
    ),
    (
        {"method": "isotonic", "force": False},
        (GOOD, Y),
        DataError,
        (
            "method='isotonic' needs at least 1,000 labels: with fewer its log loss "
            "explodes. Got 6: use method='auto', or force=True to fit it anyway."
        ),
    ),
    (
        {},
        (changed(2, 1, np.nan),),
        InputError,
        (
            "label_logprobs holds nan in row 2, column 1. Log-probabilities are "
            "finite, or -inf for an impossible label: leave out the texts that could "
            "not be scored."
        ),
    ),
    (
        {},
        (changed(3, slice(None), -np.inf),),
        InputError,
        (
            "Row 3 of label_logprobs is -inf for every label: no label is possible "
            "there. Leave the text out, or check its candidates and the label words."
        ),
    ),
    (
        {},
        (np.exp(GOOD),),
        InputError,
        (
            "label_logprobs holds probabilities: its rows sum to 1. Log-probabilities "
            "are needed: pass the LabelLogprobs, or predict_log_proba(texts)."
        ),
    ),
    (
        {},
        (GOOD[0],),
        InputError,
        (
            "label_logprobs must have a row for each text and a column for each of at "
            "least two labels. Got shape (3,) instead."
        ),
    ),
    (
        {},
        (GOOD[:0],),
        DataError,
        "There are no texts to calibrate on: pass at least one.",
    ),
    (
        {},
        ([["a", "b"]],),
        InputError,
        (
            "label_logprobs must be a LabelLogprobs or an array of log-probabilities. "
            "Got list instead, which contains something that is not a number."
        ),
    ),
    (
        {},
        (GOOD, ["a", "cc", "c", "a", "b", "c"]),
        LabelError,
        (
            "Text 1 has the label 'cc' in y, which is none of the classes: 'a', 'b', "
            "'c'. Did you mean 'c'? Correct the label, or leave the text out."
        ),
    ),
    (
        {"classes": None},
        (GOOD, ["a", "b"] * 3),
        LabelError,
        (
            "y holds 2 labels, but there are 3 columns, so it is not clear which "
            "is which: pass classes=[…] in the order of the columns."
        ),
    ),
    (
        {},
        (GOOD, Y[:4]),
        DataError,
        "y must hold one label for each of the 6 texts. Got shape (4,) instead.",
    ),
    (
        {"classes": ["a", "b"]},
        (GOOD,),
        LabelError,
        (
            "classes names 2 labels, but there are 3 columns: name one for each, in "
            "their order."
        ),
    ),
    (
        {"classes": ["a", "b", "a"]},
        (GOOD,),
        LabelError,
        "classes names 'a' more than once: each column has a label of its own.",
    ),
    (
        {"classes": "abc"},
        (GOOD,),
        LabelError,
        "classes must be a list of labels, one for each column. Got 'abc' instead.",
    ),
    (
        {"prior": "labels"},
        (GOOD,),
        ConfigError,
        (
            "prior='labels' takes the shares of the true labels, and there are none: "
            "give y, or the shares themselves."
        ),
    ),
    (
        {"prior": "skewed"},
        (GOOD,),
        ConfigError,
        (
            "prior must be 'uniform', 'labels', a share for each class in a list, or a "
            "mapping of classes to shares. Got 'skewed' instead."
        ),
    ),
    (
        {"prior": [0.5, 0.5]},
        (GOOD,),
        ConfigError,
        "prior must have a share for each of the 3 classes. Got shape (2,) instead.",
    ),
    (
        {"prior": [0.5, 0.5, 0.5]},
        (GOOD,),
        ConfigError,
        (
            "prior must hold shares from 0 to 1 that sum to 1. Got [0.5, 0.5, 0.5] "
            "instead, of sum 1.5."
        ),
    ),
    (
        {"prior": {"a": 0.5, "b": 0.5}},
        (GOOD,),
        ConfigError,
        (
            "prior names 'a', 'b', but the classes are 'a', 'b', 'c'. Give a share for "
            "each of them."
        ),
    ),
]


@pytest.mark.parametrize(("options", "arguments", "kind", "message"), REFUSED)
def test_what_cannot_be_used_is_refused(options, arguments, kind, message):
    made = LabelCalibrator(**{"classes": ["a", "b", "c"]} | options)
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        made.fit(*arguments)


def test_weights_are_checked():
    made = LabelCalibrator("affine", classes=["a", "b", "c"])
    for weights, reason in (
        ([1.0, 2.0], "one weight for each of the 6 texts. Got shape (2,) instead."),
        (
            [0.0] * 6,
            (
                "finite and at least 0, and not 0 throughout. Got values from 0.0 "
                "to 0.0 instead."
            ),
        ),
    ):
        message = re.escape(reason)
        with pytest.raises(
            DataError, match=f"^sample_weight must (hold|be) {message}$"
        ):
            made.fit(GOOD, Y, sample_weight=weights)


def test_other_columns_at_predict_time_are_refused(drawn):
    made = LabelCalibrator("prior_matching").fit(scores_of(drawn.log_proba, NAMES[:4]))
    with pytest.raises(InputError) as caught:
        made.transform(drawn.log_proba[:, :3])
    assert str(caught.value) == (
        "label_logprobs has 3 columns, but there are 4 classes: 'anger', 'fear', "
        "'joy', 'trust'. Pass one column for each, in this order."
    )
    with pytest.raises(LabelError) as caught:
        made.transform(scores_of(drawn.log_proba, NAMES[1:]))
    assert str(caught.value) == (
        "label_logprobs has the labels 'fear', 'joy', 'trust', 'wonder', but the "
        "calibrator is for 'anger', 'fear', 'joy', 'trust'. Score with the same "
        "labels, or fit another calibrator."
    )


def test_classes_that_contradict_the_scores_are_refused(drawn):
    with pytest.raises(LabelError) as caught:
        LabelCalibrator(classes=["x", "y"]).fit(scores_of(drawn.log_proba, NAMES[:4]))
    assert str(caught.value) == (
        "classes names 'x', 'y', but the scores are for 'anger', 'fear', 'joy', "
        "'trust'. Leave classes out: scores bring their own."
    )
