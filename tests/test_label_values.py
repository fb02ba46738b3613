"""Labels in `y`: of every type and container, missing, renumbered by scikit-learn."""

import re
import unicodedata
from enum import Enum, IntEnum, StrEnum

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from classify import Label, LabelSet, PromptTemplate, ZeroShotClassifier
from classify.calibration import LabelCalibrator
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import DataError, InputError, LabelError
from classify.labels.values import label_values
from classify.metrics import aurc_score, calibration_error, log_loss_from_log_proba
from classify.report import Evaluation
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine

TEXTS = ["My parcel?", "A wrong invoice.", "Money back!", "Late.", "Paid twice.", "No."]
NAMES = ["shipping", "billing", "refund"]
Y = ["shipping", "billing", "refund"] * 2
CODES = [0, 1, 2] * 2  # places in NAMES, whose order is not the sorted one


class Topic(str, Enum):  # noqa: UP042 as many write it
    SHIPPING = "shipping"
    BILLING = "billing"


class Plain(Enum):
    SHIPPING = "shipping"
    BILLING = "billing"


class New(StrEnum):
    SHIPPING = "shipping"
    BILLING = "billing"


class Level(IntEnum):
    LOW = 0
    HIGH = 1


def make(labels=NAMES, **options):
    return ZeroShotClassifier(
        labels,
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        prompt=PromptTemplate("{text}\nTopic:", chat=False),
        tolerance=0.0,
        **options,
    )


def raises(message: str, error=LabelError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def tf_idf():
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


# ---------------------------------------------------------------- missing labels

MISSING = [
    ["a", None, "b"],
    ["a", np.nan, "b"],
    ["a", pd.NA, "b"],
    ["a", pd.NaT, "b"],
    [0, None, 1],
    np.array([0.0, np.nan, 1.0]),
    np.array(["a", None, "b"], dtype=object),
    np.ma.array(["a", "x", "b"], mask=[False, True, False]),
    pd.Series(["a", None, "b"]),
    pd.Series(["a", pd.NA, "b"], dtype="string"),
    pd.Series(["a", None, "b"], dtype="category"),
    pd.Categorical(["a", None, "b"]),
    pd.array([True, None, False], dtype="boolean"),
    pa.array(["a", None, "b"]),
    pa.chunked_array([["a"], [None, "b"]]),
]
NO_LABEL = (
    "{} has no label in row 1: it is missing (None, NaN, NA or masked). Fill it in, or "
    "leave the text out of X and {}."
)


@pytest.mark.parametrize("y", MISSING, ids=range(len(MISSING)))
@pytest.mark.parametrize("labels", [None, ["a", "b"]])
def test_a_missing_label_is_no_class(y, labels):
    with raises(NO_LABEL.format("y", "y")):
        make(labels).fit(TEXTS[:3], y)


LOG_PROBA = np.log([[0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
OTHERS = {
    "y": [
        lambda y: LabelCalibrator("temperature").fit(LOG_PROBA, y),
        lambda y: LabelCalibrator("temperature", classes=["a", "b"]).fit(LOG_PROBA, y),
        lambda y: SelectiveClassifier(classes=["a", "b"]).fit(LOG_PROBA, y),
        lambda y: SplitConformalSets(classes=["a", "b"]).conformalize(LOG_PROBA, y),
    ],
    "y_true": [
        lambda y: calibration_error(y, np.exp(LOG_PROBA), classes=["a", "b"]),
        lambda y: aurc_score(y, ["a", "a", "b"], [0.6, 0.7, 0.8]),
        lambda y: Evaluation.of(
            TEXTS[:3], y, make(["a", "b"]).label_logprobs(TEXTS[:3])
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "use"),
    [(name, use) for name, uses in OTHERS.items() for use in uses],
    ids=range(7),
)
def test_nor_is_it_one_anywhere_else(name, use):
    for y in MISSING[:4] + MISSING[7:12]:
        with raises(NO_LABEL.format(name, name)):
            use(y)


def test_all_missing_rows_are_named_up_to_eight():
    with raises(
        "y has no label in rows 0, 1, 2, 3, 4, 5, 6, 7, … (2 more): it is missing "
        "(None, NaN, NA or masked). Fill it in, or leave the text out of X and y."
    ):
        label_values([None] * 10 + ["a"])


def test_words_that_only_look_missing_are_labels():
    assert make(None).fit(TEXTS[:2], ["None", "nan"]).classes_.tolist() == [
        "None",
        "nan",
    ]


# -------------------------------------------------------------- types of strings


@pytest.mark.parametrize("enum", [Topic, Plain, New])
def test_members_of_an_enum_are_their_values(enum):
    for labels in (
        enum,
        list(enum),
        dict.fromkeys(enum),
        [Label(each) for each in enum],
    ):
        assert LabelSet.parse(labels).names == ("shipping", "billing")
    y = [enum.BILLING, enum.SHIPPING]
    for clf in (make(None), make(list(enum)), make(["billing", "shipping"])):
        predicted = clf.fit(TEXTS[:2], y).predict(TEXTS[:2]).tolist()
        assert {type(label) for label in predicted} == {str}
        assert clf.classes_.tolist() == ["billing", "shipping"]
    calibrator = LabelCalibrator("temperature", classes=list(enum))
    with pytest.warns(UserWarning, match="only 3 labels"):
        calibrator.fit(LOG_PROBA, [enum.SHIPPING, enum.BILLING, enum.BILLING])
    assert calibrator.classes_.tolist() == ["shipping", "billing"]


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        np.array,
        pd.Series,
        pd.Index,
        pd.Categorical,
        pa.array,
        lambda y: [np.str_(label) for label in y],
        lambda y: pd.Series(y, dtype="string", index=range(5, 11)),
    ],
    ids=range(9),
)
def test_containers_of_labels(container):
    clf = make(None).fit(TEXTS, container(Y))
    assert clf.classes_.tolist() == sorted(NAMES)
    assert clf.predict(TEXTS).tolist() == make().predict(TEXTS).tolist()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            [["a"], ["b"]],
            (
                "y must hold one label for each text, in one dimension. Got "
                "shape (2, 1) instead."
            ),
        ),
        (
            "ab",
            (
                "y must hold one label for each text, in one dimension. Got shape () "
                "instead."
            ),
        ),
        (
            ["a", 1],
            (
                "y holds strings and numbers, such as 1: give every label as a "
                "string, or every label as a number."
            ),
        ),
        ([b"a", b"b"], "y holds b'a' of type bytes in row 0: give labels as strings."),
        (
            [0, 1],
            (
                "y holds 0, 1, which means nothing to a language model: give labels="
                "{0: '…', 1: '…'}, with a name for each value. Where scikit-learn "
                "numbered "
                "the labels (stacking, voting, cross_val_predict), give labels=[…], "
                "the names "
                "that it numbered."
            ),
        ),
        (
            np.array([1.0, 2.0]),
            (
                "y holds 1.0, 2.0, which means nothing to a language "
                "model: give labels={1: '…', 2: '…'}, with a name for each value. "
                "Where "
                "scikit-learn numbered the labels (stacking, voting, "
                "cross_val_predict), give "
                "labels=[…], the names that it numbered."
            ),
        ),
    ],
    ids=range(6),
)
def test_what_teaches_no_labels(y, message):
    with raises(message):
        make(None).fit(TEXTS[:2], y)


def test_a_label_for_each_text():
    with raises(
        "y must hold one label for each of the 6 texts. Got 2 instead.", DataError
    ):
        make().fit(TEXTS, Y[:2])


# --------------------------------------------------- numbers that the user explains


@pytest.mark.parametrize("y", [CODES, np.array(CODES), pd.Series(CODES)])
def test_numbers_that_labels_name(y):
    clf, named = make(dict(enumerate(NAMES))).fit(TEXTS, y), make()
    assert clf.classes_.tolist() == [0, 1, 2]
    assert [NAMES[at] for at in clf.predict(TEXTS)] == named.predict(TEXTS).tolist()
    columns = [named.classes_.tolist().index(name) for name in NAMES]
    np.testing.assert_array_equal(
        clf.predict_proba(TEXTS), named.predict_proba(TEXTS)[:, columns]
    )
    assert clf.score(TEXTS, y) == named.score(TEXTS, Y)
    frame = pd.DataFrame({"text": TEXTS})
    pd.testing.assert_frame_equal(
        clf.classify_frame(frame, probabilities=True),
        named.classify_frame(frame, probabilities=True),
    )


def test_booleans_that_labels_name():
    clf = make({True: "good", False: "bad"})
    y = [True, False] * 3
    predicted = clf.fit(TEXTS, y).predict(TEXTS)
    assert predicted.dtype == bool
    names = make(["good", "bad"]).predict(TEXTS)
    assert predicted.tolist() == (names == "good").tolist()


def test_enums_of_numbers_that_labels_name():
    clf = make({Level.LOW: "calm", Level.HIGH: Label("angry", words=("furious",))})
    assert clf.fit(TEXTS[:2], list(Level)).classes_.tolist() == [0, 1]
    assert clf.label_set_["angry"].words == ("furious",)


def test_scores_of_numbers_are_those_of_names():
    for scoring in ("accuracy", "neg_log_loss", "roc_auc_ovr"):
        numbers = cross_val_score(
            make(dict(enumerate(NAMES))), TEXTS, CODES, cv=2, scoring=scoring
        )
        names = cross_val_score(make(), TEXTS, Y, cv=2, scoring=scoring)
        np.testing.assert_allclose(numbers, names)
    search = GridSearchCV(make(dict(enumerate(NAMES))), {"tolerance": [0.0, 0.5]}, cv=2)
    assert search.fit(TEXTS, CODES).predict(TEXTS).dtype.kind == "i"


def test_a_calibrator_is_fitted_to_the_names_of_numbers():
    texts = [f"text {at}" for at in range(30)]
    numbers = make({7: "shipping", 3: "billing"}, calibrator="affine")
    names = make(["shipping", "billing"], calibrator="affine")
    numbers.fit(texts, [7, 3, 3] * 10)
    names.fit(texts, ["shipping", "billing", "billing"] * 10)
    np.testing.assert_array_equal(
        numbers.predict_proba(texts), names.predict_proba(texts)
    )
    assert numbers.calibrator_.classes_.tolist() == ["billing", "shipping"]


def test_weights_reach_the_calibrator():
    texts = [f"text {at}" for at in range(30)]
    y = ["shipping", "billing", "billing"] * 10
    kept = np.arange(30) % 2
    weighted = make(["shipping", "billing"], calibrator="affine")
    weighted.fit(texts, y, sample_weight=kept)
    alone = make(["shipping", "billing"], calibrator=LabelCalibrator("affine"))
    alone.fit(texts[1::2], y[1::2])
    np.testing.assert_allclose(
        weighted.calibrator_.bias_, alone.calibrator_.bias_, atol=0.5
    )
    plain = make(["shipping", "billing"], calibrator="affine").fit(texts, y)
    assert not np.allclose(weighted.calibrator_.bias_, plain.calibrator_.bias_)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {0: "a", "b": None},
            (
                "Label 'b' has no value, but others do: give each "
                "label a number, or none."
            ),
        ),
        (
            {0: ["x"], 1: "b"},
            (
                "The value 0 needs the name of its label, such as "
                "{0: 'positive'}, or a Label. Got ['x'] instead."
            ),
        ),
        (
            [Label("a", value=1), Label("b", value=1)],
            ("The value 1 stands for two labels: give each its own."),
        ),
        (
            {float("nan"): "a", 1: "b"},
            (
                "The value of label 'a' must be a finite number or a boolean. Got nan "
                "instead."
            ),
        ),
        (
            [0, 1],
            (
                "A label cannot be read from 0: a number means nothing to a language "
                "model. Give the names: labels={0: 'negative', 1: 'positive'} where y "
                "holds "
                "numbers, or ['0', '1'] for the digits themselves."
            ),
        ),
        (
            Level,
            (
                "A label cannot be read from 0: a number means nothing to a language "
                "model. Give the names: labels={0: 'negative', 1: 'positive'} where y "
                "holds "
                "numbers, or ['0', '1'] for the digits themselves."
            ),
        ),
    ],
    ids=range(6),
)
def test_labels_that_name_no_numbers(labels, message):
    with raises(message):
        make(labels).fit(TEXTS)


def test_a_number_that_no_label_names():
    with raises(
        "y holds 3, which is none of the values that the labels are for: 0, 1. Correct "
        "y, or add the value and its name to labels."
    ):
        make({0: "a", 1: "b"}).fit(TEXTS[:2], [0, 3])


# ------------------------------------------------------ numbers of scikit-learn's own


def test_stacking_with_tf_idf():
    estimators = [("tf_idf", tf_idf()), ("labels", make())]
    stack = StackingClassifier(estimators, cv=2).fit(TEXTS, Y)
    assert stack.classes_.tolist() == sorted(NAMES)
    of_ours = stack.transform(TEXTS)[:, 3:]
    np.testing.assert_array_equal(of_ours, make().predict_proba(TEXTS))
    assert set(stack.predict(TEXTS)) <= set(NAMES)


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting(voting):
    alone = VotingClassifier([("labels", make())], voting=voting).fit(TEXTS, Y)
    assert alone.predict(TEXTS).tolist() == make().predict(TEXTS).tolist()
    both = [("labels", make()), ("tf_idf", tf_idf())]
    assert set(VotingClassifier(both, voting=voting).fit(TEXTS, Y).predict(TEXTS)) <= {
        *NAMES
    }


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("labels", [NAMES, dict(enumerate(NAMES))])
def test_cross_validated_predictions(method, labels):
    y = Y if labels is NAMES else CODES
    clf = make(labels)
    found = cross_val_predict(clf, TEXTS, y, cv=2, method=method)
    np.testing.assert_array_equal(found, getattr(clf, method)(TEXTS))


def test_cross_validated_predictions_are_those_of_a_calibrator_fitted_to_names():
    texts = [f"text {at}" for at in range(20)]
    y = ["shipping", "billing"] * 10
    clf = make(["shipping", "billing"], calibrator="affine")
    found = cross_val_predict(clf, texts, y, cv=2, method="predict_proba")
    first, second = np.arange(10), np.arange(10, 20)
    for train, test in ((first, second), (second, first)):
        clf.fit([texts[at] for at in train], [y[at] for at in train])
        expected = clf.predict_proba([texts[at] for at in test])
        np.testing.assert_array_equal(found[test], expected)


def test_the_meta_estimator_that_splits_classes_is_refused():
    with raises(
        "y holds 0, 1, but the labels are 'billing', 'refund', 'shipping'. Give y as "
        "names, or say which value is which: labels={0: '…', 1: '…'}. Scikit-learn's "
        "own numbers (stacking, voting, cross_val_predict) are accepted where y holds "
        "all of them, 0 to 2."
    ):
        OneVsRestClassifier(make()).fit(TEXTS, Y)


@pytest.mark.parametrize("y", [[0, 2], [1, 2, 3], [True, False], [0.0, 1.0, 2.0]])
def test_other_numbers_beside_names_are_refused(y):
    with pytest.raises(LabelError, match="Give y as names, or say which value is"):
        make().fit(TEXTS[: len(y)], y)


def test_weighted_calibration_of_scikit_learn():
    texts = [f"text {at}" for at in range(12)]
    calibrated = CalibratedClassifierCV(make(), cv=2, method="sigmoid")
    calibrated.fit(texts, Y * 2, sample_weight=np.ones(12))
    assert calibrated.classes_.tolist() == sorted(NAMES)


def test_numbers_are_said_to_follow_the_sorted_order_where_labels_do_not(caplog):
    labels = ["zoo", "yard", "attic"]  # told once for each set of labels
    clf = make(labels).fit(TEXTS, CODES)
    clf.fit(TEXTS, CODES)
    assert caplog.messages == [
        (
            "y holds numbers, which are read as scikit-learn numbers labels, in sorted "
            "order: 0 is 'attic', 1 is 'yard', 2 is 'zoo'. If y numbers them "
            "otherwise, give labels={0: …, 1: …}."
        )
    ]
    assert clf.classes_.tolist() == [0, 1, 2]
    clf.fit(TEXTS, ["zoo", "yard", "attic"] * 2)
    assert clf.classes_.tolist() == ["attic", "yard", "zoo"]
    clf.fit(TEXTS, CODES).set_params(labels={2: "zoo", 1: "yard", 0: "attic"})
    assert clf.classes_.tolist() == [0, 1, 2]
    clf.set_params(labels=["a", "b"])
    assert clf.classes_.tolist() == ["a", "b"]
    make(sorted(labels)).fit(TEXTS, CODES)
    assert len(caplog.messages) == 1


# --------------------------------------------------------------- y as fit reads it


@pytest.mark.parametrize("kind", [Topic, Plain, New])
def test_score_reads_y_as_fit_does(kind):
    clf = make(["shipping", "billing"])
    predicted = clf.predict(TEXTS).tolist()
    assert clf.score(TEXTS, predicted) == 1.0
    assert clf.score(TEXTS, [kind(name) for name in predicted]) == 1.0
    others = [
        kind("billing" if name == "shipping" else "shipping") for name in predicted
    ]
    assert clf.score(TEXTS, others) == 0.0
    wrong_first = [others[0], *predicted[1:]]
    assert clf.score(TEXTS, wrong_first) == 1 - 1 / len(TEXTS)
    assert clf.score(TEXTS, wrong_first, sample_weight=[0, 1, 1, 1, 1, 1]) == 1.0
    # Not a label of this classifier, as where a fold has none of it: wrong.
    assert clf.score(TEXTS, ["refund", *predicted[1:]]) == 1 - 1 / len(TEXTS)


def test_score_reads_normal_forms_and_values():
    clf = make(["caf\u00e9", "barr\u00e9"])
    predicted = clf.predict(TEXTS)
    decomposed = [unicodedata.normalize("NFD", name) for name in predicted.tolist()]
    assert clf.score(TEXTS, decomposed) == 1.0
    clf = make({1: "billing", 0: "shipping"})
    assert clf.score(TEXTS, pd.Series(clf.predict(TEXTS), dtype="Int64")) == 1.0


def test_numbers_do_not_stand_for_the_names_of_scores():
    clf = make({0: "shipping", 1: "billing"})
    scores, y = clf.label_logprobs(TEXTS), clf.predict(TEXTS)
    assert scores.classes.tolist() == ["billing", "shipping"]
    message = (
        f"{{}} holds {y[0]}, but the classes are names: 'billing', 'shipping'. Give "
        "the names, so that no number is taken for another label."
    )
    for fit in (SelectiveClassifier().fit, SplitConformalSets().fit):
        with raises(message.format("y")):
            fit(scores, y)
    with raises(message.format("y_true")):
        Evaluation.of(TEXTS, y, scores)


def test_predicted_labels_and_groups_are_read_as_labels_are():
    confidence = [0.9, 0.8, 0.7]
    y = ["shipping", "billing", "billing"]
    assert aurc_score(y, [Topic(name) for name in y], confidence) == 0.0
    assert aurc_score([Topic(name) for name in y], y, confidence) == 0.0
    proba = np.exp(LOG_PROBA)
    sets = SplitConformalSets().fit(
        proba, [0, 1, 1], groups=[Topic(each) for each in y]
    )
    assert list(sets.n_texts_) == ["shipping", "billing"]
    sets = SplitConformalSets().fit(proba, [0, 1, 1], groups=["1", 1, "1"])
    assert sets.n_texts_ == {"1": 2, 1: 1}
    message = "groups[2] is nan: a group must be a string or an integer."
    with raises(message, InputError):
        SplitConformalSets().fit(proba, [0, 1, 1], groups=["a", "b", np.nan])


# ------------------------------------------------------------ columns with names

LETTERS = ["a", "b"]


@pytest.mark.parametrize("named", ["{}", "p({})"])
@pytest.mark.parametrize(
    ("what", "use"),
    [
        ("X", lambda table, y: SelectiveClassifier(classes=LETTERS).fit(table, y)),
        ("X", lambda table, y: SplitConformalSets(classes=LETTERS).fit(table, y)),
        (
            "X",
            lambda table, y: SelectiveClassifier.at(0.5, LETTERS).predict(table),
        ),
        ("y_proba", lambda table, y: calibration_error(y, table, classes=LETTERS)),
        (
            "log_proba",
            lambda table, y: log_loss_from_log_proba(y, np.log(table), classes=LETTERS),
        ),
        (
            "label_logprobs",
            lambda table, y: LabelCalibrator("temperature").fit(np.log(table), y),
        ),
        (
            "label_logprobs",
            lambda table, y: LabelCalibrator("temperature", classes=LETTERS).fit(
                np.log(table), y
            ),
        ),
        (
            "label_logprobs",
            lambda table, y: (
                LabelCalibrator("temperature")
                .fit(np.tile(LOG_PROBA, (20, 1)), y)
                .transform(np.log(table))
            ),
        ),
    ],
    ids=range(8),
)
def test_named_columns_are_those_of_the_classes(named, what, use):
    y = ["a", "b", "b"] * 20
    columns = [named.format(name) for name in LETTERS]
    table = pd.DataFrame(np.tile(np.exp(LOG_PROBA), (20, 1)), columns=columns)
    use(table, y)
    use(table.set_axis(["x", "y"], axis=1), y)  # names that say nothing
    shown = ", ".join(map(repr, columns[::-1]))
    with raises(
        f"{what} has the columns {shown}, but must have one for each class, in this "
        "order: 'a', 'b'."
    ):
        use(table[columns[::-1]], y)
