"""Jobs, calibrations and task files for labels of which any number apply."""

import json
import re
from functools import partial

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from classify import PromptTemplate, TaskClassifier
from classify.cells import split_names
from classify.config import Task
from classify.decision import fit_thresholds
from classify.errors import ConfigError, DataError, EngineError, InputError, LabelError
from classify.estimators.artefact import Artefact, LabelsArtefact
from classify.estimators.asked import AskedLabels, AskedQuestion
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs import (
    CalibrationWishes,
    Classification,
    RowColumns,
    fit_labels_artefact,
    open_table,
    read_labelled,
    score_labelled,
)
from classify.labels import LabelSet
from classify.questions.decision_rules import Target
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import NO_TEXT, asked, csv_of, dying_engine, make, raises, run
from tests.toy_model import hashed_engine

TEXTS = ["a", "b", "", "a", "c", "dd", "b"]
NAMES = ["shipping", "billing", "[C|C++]"]


def multi(labels=NAMES, *, engine=None, **options):
    return ZeroShotMultiLabelClassifier(
        labels,
        engine=hashed_engine(len(byte_level())) if engine is None else engine,
        tokenizer=byte_level(),
        prompt=PromptTemplate("{text}\nTopic: {label}?", chat=False),
        **options,
    )


@pytest.fixture
def source(tmp_path):
    return csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])


def table_of(path):
    return pd.read_csv(path, keep_default_na=False, dtype=str)


# ---------------------------------------------------------------------------- jobs


def test_a_job_writes_what_the_estimator_says(tmp_path, source):
    classifier = multi(thresholds={"billing": 0.01, "[C|C++]": 0.01, "shipping": 0.009})
    outcome = run(
        source,
        tmp_path / "out.csv",
        Classification(classifier=classifier, probabilities=True),
    )
    found = table_of(tmp_path / "out.csv")
    names = sorted(NAMES)
    assert found.columns.tolist() == [
        *("text", "labels", *(f"p({name})" for name in names)),
        *("label_mass", "unresolved", "truncated", "error"),
    ]
    good = [text for text in TEXTS if text]
    proba = classifier.predict_proba(good)
    given = [
        [name for name, yes in zip(names, row, strict=True) if yes]
        for row in classifier.predict(good)
    ]
    rows = found[found["text"] != ""]
    # What CSV holds can be read back: a name may hold the separator.
    assert [split_names(cell) for cell in rows["labels"]] == given
    assert [] in given
    assert any(len(each) > 1 for each in given)
    written = rows[[f"p({name})" for name in names]].to_numpy(dtype=float)
    np.testing.assert_array_equal(written, proba)
    assert found["error"].tolist() == ["" if text else NO_TEXT for text in TEXTS]
    counts = {name: sum(name in each for each in given) for name in names}
    assert outcome.summary.n_labelled == len(good)
    assert dict(outcome.summary.label_counts) == {
        name: count for name, count in counts.items() if count
    }


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_are_lists_where_a_format_has_them(tmp_path, source, suffix):
    job = Classification(classifier=multi(["billing", "shipping"]))
    run(source, tmp_path / "out.csv", job)
    out = tmp_path / f"out{suffix}"
    run(source, out, job)
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = pq.read_table(out).to_pylist()
    expected = [
        split_names(cell) if cell else None
        for cell in table_of(tmp_path / "out.csv")["labels"]
    ]
    assert [row["labels"] for row in rows] == expected
    assert None in expected


def questions(engine=None):
    engine = engine or hashed_engine(len(byte_level()))
    topic = make(engine=engine, template="{text}\nTopic:")
    return (
        AskedQuestion(name="topic", classifier=topic),
        AskedLabels(name="about", classifier=multi(["x", "y"], engine=engine)),
    )


def test_beside_another_question_nothing_changes(tmp_path, source):
    both = Classification(questions=questions(), probabilities=True)
    outcome = run(source, tmp_path / "both.csv", both)
    found = table_of(tmp_path / "both.csv")
    assert found.columns.tolist() == [
        *("text", "topic", "topic.probability"),
        *("topic.p(billing)", "topic.p(shipping)"),
        *("topic.label_mass", "topic.unresolved"),
        *("about", "about.p(x)", "about.p(y)", "about.label_mass", "about.unresolved"),
        *("truncated", "error"),
    ]
    alone = Classification(classifier=multi(["x", "y"]), probabilities=True)
    run(source, tmp_path / "alone.csv", alone)
    expected = table_of(tmp_path / "alone.csv")
    assert found["about"].tolist() == expected["labels"].tolist()
    for name in ("p(x)", "p(y)", "label_mass", "unresolved"):
        assert found[f"about.{name}"].tolist() == expected[name].tolist()
    assert outcome.summary.questions["about"].n_labelled == 6
    frame = pd.DataFrame({"text": TEXTS})
    expected = multi(["x", "y"]).classify_frame(frame, on_error="set_aside")
    assert expected["labels"].fillna("").tolist() == found["about"].tolist()


def test_all_labels_of_a_row_are_asked_one_after_the_other(tmp_path, source):
    engine = hashed_engine(len(byte_level()))
    run(source, tmp_path / "out.csv", Classification(questions=questions(engine)))
    texts = [each.partition("\n")[0] for each in asked(engine)]
    assert texts == [text for text in ("a", "b", "c", "dd") for _ in range(3)]


def test_an_interrupted_job_goes_on(tmp_path, source):
    run(source, tmp_path / "whole.csv", Classification(questions=questions()))
    broken = Classification(questions=questions(dying_engine("dd")))
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.csv", broken, part_rows=2)
    engine = hashed_engine(len(byte_level()))
    job = Classification(questions=questions(engine))
    outcome = run(source, tmp_path / "out.csv", job, part_rows=2)
    assert outcome.n_resumed == 4
    assert {each.partition("\n")[0] for each in asked(engine)} == {"c", "dd"}
    whole = (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_a_job_does_not_go_on_with_other_labels_or_thresholds(tmp_path, source):
    broken = Classification(classifier=multi(engine=dying_engine("dd")))
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.csv", broken, part_rows=2)
    for changed, part in (
        (multi({"shipping": "parcels", "billing": None, "[C|C++]": None}), "shipping"),
        (multi(thresholds=0.2), r"thresholds: was [0-9a-f]+, now [0-9a-f]+"),
    ):
        with pytest.raises(ConfigError) as caught:
            run(source, tmp_path / "out.csv", Classification(classifier=changed))
        assert re.search(part, str(caught.value))


def test_a_further_label_is_all_that_a_cached_job_asks(tmp_path, source):
    cache = tmp_path / "c"
    first = Classification(classifier=multi(["x", "y"]))
    run(source, tmp_path / "1.csv", first, cache=cache)
    engine = hashed_engine(len(byte_level()))
    job = Classification(classifier=multi(["x", "y", "z"], engine=engine))
    run(source, tmp_path / "2.csv", job, cache=cache)
    assert {each.partition("Topic: ")[2] for each in asked(engine)} == {"z?"}


def test_a_row_that_fails_for_one_label_has_no_labels(tmp_path, source):
    engine = hashed_engine(len(byte_level()), context_length=16)
    classifier = multi(["x", "a label that is qzwxjvkqzjwxvkzqjxwv"], engine=engine)
    classifier.set_params(
        prompt=PromptTemplate("{text}\n{label}?", chat=False, too_long="error")
    )
    outcome = run(source, tmp_path / "out.csv", Classification(classifier=classifier))
    found = table_of(tmp_path / "out.csv")
    assert found["labels"].tolist() == [""] * len(TEXTS)
    assert outcome.summary.n_set_aside == len(TEXTS)


def test_what_cannot_be_done_with_several_labels_is_refused(source):
    table = open_table(source)
    job = Classification(classifier=multi(), columns=RowColumns(labels="text"))
    with raises(
        "labels_column gives each row its own labels, one of which is the answer. With "
        "kind multi, all rows have the same labels: leave labels_column out.",
        ConfigError,
    ):
        job.check(table)
    job = Classification(classifier=multi(strategy="reason"), reasoning=True)
    with raises(
        "reasoning adds a column with the model's thought, but a question of kind "
        "multi has a thought for each label: leave "
        "reasoning out.",
        ConfigError,
    ):
        job.check(table)


# --------------------------------------------------------------------- calibration


def labelled(cells, labels=("billing", "shipping")):
    frame = pd.DataFrame({"text": [f"text {at}" for at in range(len(cells))]})
    frame["label"] = cells
    return read_labelled(
        open_table(frame),
        LabelSet.parse(list(labels)),
        fields=("text",),
        text_column="text",
        label_column="label",
        any_number=True,
    )


def test_cells_list_labels_in_all_forms():
    cells = ["shipping|billing", "[]", '["billing"]', ["shipping"], [], "", None, "nan"]
    rows = labelled(cells)
    assert rows.labels.tolist() == [[1, 1], [0, 0], [1, 0], [0, 1], [0, 0]]
    assert rows.unlabelled.total() == 3
    with raises(
        "Column 'label' of the DataFrame holds 2 values that are not labels. 'bill': 2 "
        "rows, the first is row 1. Did you mean 'billing'? '[billing': row 2. Did you "
        "mean 'billing'? The labels are 'billing', 'shipping'. Correct these cells, or "
        "empty them to leave their rows out.",
        LabelError,
    ):
        labelled(["bill|shipping", "[billing", "bill"])


def test_a_calibration_is_fitted_for_each_label_and_thresholds_on_other_rows(tmp_path):
    names = ["billing", "shipping"]
    rng = np.random.default_rng(0)
    cells = [
        [name for name in names if rng.random() < share]
        for share in rng.choice([0.2, 0.6], 60)
    ]
    # Thresholds are compared with lower bounds: here there is nothing between.
    exact = partial(multi, tolerance=0.0)
    classifier = exact(names)
    rows = labelled(cells)
    texts = score_labelled(classifier, rows)
    wishes = CalibrationWishes(method="affine", target=Target("f1"))
    fit = fit_labels_artefact(classifier, texts, wishes)
    assert (fit.n_calibrated, fit.n_decided) == (30, 30)

    order = np.random.default_rng(0).permutation(60)
    first, others = np.sort(order[:30]), np.sort(order[30:])
    shown = np.array([row["text"] for row in texts.rows])
    own = exact(names, calibrator="affine").fit(shown[first], rows.labels[first])
    expected = own.predict_proba(shown)
    thresholds = fit_thresholds(expected[others], rows.labels[others], names)

    path = tmp_path / "c.json"
    fit.artefact.save(path)
    found = exact(names, calibrator=path)
    np.testing.assert_allclose(found.predict_proba(shown), expected)
    limits = np.array([thresholds.thresholds[name] for name in names])
    np.testing.assert_array_equal(found.predict(shown), expected >= limits)
    # A threshold that is given comes first.
    fixed = exact(names, calibrator=path, thresholds=0.9).predict(shown)
    np.testing.assert_array_equal(fixed, expected >= 0.9)

    loaded = LabelsArtefact.load(path)
    assert loaded.thresholds_for(Target("f1")) == loaded.thresholds
    with raises(
        "There are no thresholds for recall=0.8: the calibration holds some for f1. "
        "Fit some: classify calibrate … --target recall=0.8.",
        ConfigError,
    ):
        loaded.thresholds_for(Target("recall", 0.8))
    with raises(
        f"The calibration {str(path)!r} is for a question of kind multi, but this "
        "question has one answer: fit another.",
        DataError,
    ):
        Artefact.load(path)
    other = exact(names, calibrator=path, no_words=["Never"])
    with pytest.raises(ConfigError, match="was fitted on something else"):
        other.predict(["a"])


# ---------------------------------------------------------------------- task files


def test_a_task_file_has_kind_words_and_thresholds():
    task = Task.parse(
        {
            "labels": ["billing", "shipping"],
            "kind": "multi",
            "yes_words": ["Ja", "ja"],
            "no_words": "Nein,nein",
            "threshold": {"billing": 0.7},
        }
    )
    classifier = task.classifier()
    assert isinstance(classifier, ZeroShotMultiLabelClassifier)
    assert tuple(classifier.no_words) == ("Nein", "nein")
    assert classifier.thresholds == {"billing": 0.7}


PRODUCTS = {"labels": ["router", "card"], "kind": "multi"}


NO_SETS = (
    "sets is for questions with one answer, and with kind='multi' any number of "
    "labels apply: use target, such as target='risk=0.1'."
)
NO_TARGET = (
    "'target' must be f1, or precision=P, recall=P or risk=R with a number above 0 and "
    "below 1. Got 'precision' instead."
)
NO_ESCAPE = (
    "escape='other' is for questions with one answer. With kind='multi' no label "
    "applies to a text that fits none: leave escape out."
)
NO_LABELS_COLUMN = (
    "labels_column gives each row its own labels, one of which is the answer; with "
    "kind='multi' all rows have the same labels: leave one of the two out."
)
NO_MAPPING = (
    "threshold can be a mapping with kind='multi' only: give one number, below which "
    "no label is given."
)
NO_LABEL = (
    "Among the thresholds, 'ruter' is not one of the labels: 'router', 'card'. Did you "
    "mean 'router'?"
)
ONE_LABEL = {"labels": ["a", "b"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PRODUCTS | {"threshold": {"ruter": 0.5}}, NO_LABEL),
        (
            PRODUCTS | {"threshold": {"router": 2}},
            "'threshold' must be a number from 0 to 1. Got {'router': 2} instead.",
        ),
        (PRODUCTS | {"sets": 0.9}, NO_SETS),
        (PRODUCTS | {"target": "precision"}, NO_TARGET),
        (
            PRODUCTS | {"target": "f1", "threshold": 0.5},
            "Give threshold or target, not both.",
        ),
        (PRODUCTS | {"escape": "other"}, NO_ESCAPE),
        (PRODUCTS | {"labels_column": "x"}, NO_LABELS_COLUMN),
        (
            ONE_LABEL | {"yes_words": ["Ja"]},
            "yes_words is for kind='multi': give that, or drop yes_words.",
        ),
        (
            ONE_LABEL | {"target": "f1"},
            "target is for kind='multi': give that, or drop target.",
        ),
        (ONE_LABEL | {"threshold": {"a": 0.5}}, NO_MAPPING),
    ],
)
def test_bad_settings_are_refused_before_anything_is_loaded(settings, message):
    with raises(message, InputError):
        Task.parse(settings)


def test_an_estimator_of_one_answer_refuses_the_kind():
    with raises(
        "kind='multi' gives a text any number of labels: use "
        "ZeroShotMultiLabelClassifier in place of ZeroShotClassifier.",
        ConfigError,
    ):
        make(kind="multi").predict(["a"])


def test_a_task_answers_with_lists():
    task = {"questions": {"topic": {"labels": ["x", "y"]}, "products": PRODUCTS}}
    clf = TaskClassifier(task)
    assert clf.classes_["products"].tolist() == ["card", "router"]
    found = clf.predict(["My parcel is late."])
    proba = clf.predict_proba(["My parcel is late."])
    own = ZeroShotMultiLabelClassifier(["router", "card"])
    expected = own.predict_proba(["My parcel is late."])
    np.testing.assert_allclose(proba["products"].to_numpy(), expected, atol=1e-5)
    assert isinstance(found["products"][0], list)
