"""Jobs that ask several questions about each row."""

import json
import re

import pandas as pd
import pyarrow.parquet as pq
import pytest

from classify import PromptTemplate, SelectiveClassifier
from classify.errors import ConfigError, EngineError
from classify.estimators.asked import AskedQuestion
from classify.jobs import Classification, open_table
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import (
    NO_TEXT,
    asked,
    csv_of,
    dying_engine,
    job_of,
    make,
    raises,
    rows_of,
    run,
)
from tests.toy_model import hashed_engine

LONG = "qzwxjvkqzjwxvkzqjxwv"
TEXTS = ["a", "b", "", "a", "c", "dd", LONG, "b"]
LABELS = {
    "topic": ("billing", "shipping"),
    "tone": ("angry", "calm", "glad"),
    "urgency": ("low", "high"),
}


def question(name, *, engine=None, **options):
    template = options.pop("template", f"{{text}}\nTopic: {name}")
    rules = {key: options.pop(key) for key in ("selective", "sets") if key in options}
    classifier = make(LABELS[name], engine=engine, template=template, **options)
    return AskedQuestion(name=name, classifier=classifier, **rules)


def asking(*questions, **options):
    """Return a job that asks these, over one engine."""
    engine = options.pop("engine", None) or hashed_engine(len(byte_level()))
    made = tuple(
        question(each, engine=engine) if isinstance(each, str) else each
        for each in questions
    )
    return Classification(questions=made, **options)


@pytest.fixture
def source(tmp_path):
    return csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])


def table_of(path):
    return pd.read_csv(path, keep_default_na=False, dtype=str)


def test_each_question_has_columns_and_figures_as_if_it_were_asked_alone(
    tmp_path, source
):
    several = asking("topic", "tone", probabilities=True)
    outcome = run(source, tmp_path / "out.csv", several)
    found = table_of(tmp_path / "out.csv")
    assert found.columns.tolist() == [
        *("text", "topic", "topic.probability"),
        *("topic.p(billing)", "topic.p(shipping)"),
        *("topic.label_mass", "topic.unresolved"),
        *("tone", "tone.probability", "tone.p(angry)", "tone.p(calm)", "tone.p(glad)"),
        *("tone.label_mass", "tone.unresolved", "truncated", "error"),
    ]
    for each in several.questions:
        alone = job_of(each.classifier, probabilities=True)
        run(source, tmp_path / "alone.csv", alone)
        expected = table_of(tmp_path / "alone.csv")
        assert found[each.name].tolist() == expected["label"].tolist()
        for name in ("probability", "label_mass", "unresolved"):
            assert found[f"{each.name}.{name}"].tolist() == expected[name].tolist()
    assert found["error"].tolist() == [NO_TEXT if not text else "" for text in TEXTS]
    assert rows_of(tmp_path / "out.csv.errors.csv")[1:] == [["3", "", NO_TEXT, ""]]
    summary = outcome.summary
    assert (summary.n_rows, summary.n_labelled, summary.n_set_aside) == (8, 7, 1)
    assert {name: each.n_labelled for name, each in summary.questions.items()} == {
        "topic": 7,
        "tone": 7,
    }


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_formats_hold_the_same_values(tmp_path, source, suffix):
    run(source, tmp_path / "out.csv", asking("topic", "tone"))
    run(source, tmp_path / f"out{suffix}", asking("topic", "tone"))
    found = tmp_path / f"out{suffix}"
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in found.read_text().splitlines()]
    else:
        rows = pq.read_table(found).to_pylist()
    expected = table_of(tmp_path / "out.csv")
    assert list(rows[0]) == expected.columns.tolist()
    for name in ("topic", "tone"):
        assert [row[name] or "" for row in rows] == expected[name].tolist()
    values = [row["tone.probability"] for row in rows if row["tone"]]
    assert values == [float(each) for each in expected["tone.probability"] if each]


def test_the_order_of_questions_changes_the_order_of_columns_only(tmp_path, source):
    run(source, tmp_path / "one.csv", asking("topic", "tone", "urgency"))
    run(source, tmp_path / "two.csv", asking("urgency", "topic", "tone"))
    one, two = table_of(tmp_path / "one.csv"), table_of(tmp_path / "two.csv")
    assert one.columns.tolist() != two.columns.tolist()
    pd.testing.assert_frame_equal(one, two[one.columns])


def test_all_questions_about_a_text_go_out_one_after_the_other(tmp_path, source):
    engine = hashed_engine(len(byte_level()))
    run(source, tmp_path / "out.csv", asking("topic", "tone", engine=engine))
    texts = [each.partition("\n")[0] for each in asked(engine)]
    assert texts == [
        each for text in ("a", "b", "c", "dd", LONG) for each in text and [text] * 2
    ]


def test_a_row_that_fails_for_one_question_keeps_the_others(tmp_path, source):
    options = {"chat": False, "too_long": "error"}
    engine = hashed_engine(len(byte_level()), context_length=32)
    short = question("topic", engine=engine)
    long = question("tone", engine=engine)
    template = "{text}\nTone of the message:"
    long.classifier.set_params(prompt=PromptTemplate(template, **options))
    outcome = run(source, tmp_path / "out.csv", asking(short, long))
    found = table_of(tmp_path / "out.csv")
    at = TEXTS.index(LONG)
    assert found["topic"][at]
    assert (found["tone"][at], found["tone.probability"][at]) == ("", "")
    reason = found["error"][at]
    assert reason.startswith("tone: ")
    assert found["error"][TEXTS.index("")] == NO_TEXT  # of all questions alike
    assert ["7", "", reason, ""] in rows_of(tmp_path / "out.csv.errors.csv")
    assert outcome.summary.n_set_aside == 2
    assert outcome.summary.questions["topic"].n_set_aside == 1


def test_a_cut_text_is_told_of_once_for_the_row(tmp_path, source):
    engine = hashed_engine(len(byte_level()), context_length=32)
    long = question("tone", engine=engine, template="{text}\nTone of the message:")
    short = question("topic", engine=engine)
    run(source, tmp_path / "out.csv", asking(short, long))
    found = table_of(tmp_path / "out.csv")["truncated"].tolist()
    assert found == ["" if not text else str(text == LONG) for text in TEXTS]


def test_withheld_labels_are_those_of_their_question(tmp_path, source):
    rule = SelectiveClassifier.at(1.0, sorted(LABELS["tone"]))
    strict = question("tone", selective=rule)
    outcome = run(source, tmp_path / "out.csv", asking("topic", strict))
    found = table_of(tmp_path / "out.csv")
    scored = [bool(text) for text in TEXTS]
    assert [bool(each) for each in found["topic"]] == scored
    assert found["tone"].tolist() == [""] * len(TEXTS)
    expected = ["low probability" if each else "" for each in scored]
    assert found["tone.abstained"].tolist() == expected
    assert outcome.summary.n_labelled == 0
    assert outcome.summary.questions["topic"].n_labelled == 7


def test_an_interrupted_job_goes_on_with_what_is_missing(tmp_path, source):
    expected = tmp_path / "whole.csv"
    run(source, expected, asking("topic", "tone"), part_rows=2)
    engine = dying_engine("dd")
    broken = [question(name, engine=engine) for name in ("topic", "tone")]
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.csv", asking(*broken), part_rows=2)
    again = hashed_engine(len(byte_level()))
    job = asking("topic", "tone", engine=again)
    outcome = run(source, tmp_path / "out.csv", job, part_rows=2)
    assert outcome.n_resumed == 4
    assert {each.partition("\n")[0] for each in asked(again)} == {"c", "dd", LONG}
    assert (tmp_path / "out.csv").read_bytes() == expected.read_bytes()
    assert outcome.summary.questions["tone"].n_labelled == 7


def test_a_further_question_is_all_that_a_cached_job_asks(tmp_path, source):
    run(source, tmp_path / "one.csv", asking("topic", "tone"), cache=tmp_path / "c")
    engine = hashed_engine(len(byte_level()))
    job = asking("urgency", "topic", "tone", engine=engine)
    run(source, tmp_path / "two.csv", job, cache=tmp_path / "c")
    assert {each.partition(": ")[2] for each in asked(engine)} == {"urgency"}
    one, two = table_of(tmp_path / "one.csv"), table_of(tmp_path / "two.csv")
    assert two.columns.tolist()[1] == "urgency"
    pd.testing.assert_frame_equal(one, two[one.columns])


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (("topic", "urgency"), "questions: was topic, tone, now topic, urgency"),
        (("tone", "topic"), "questions: was topic, tone, now tone, topic"),
        (
            ("topic", question("tone", template="{text}\nTone:")),
            "tone.prompt.template: was {text}\nTopic: tone, now {text}\nTone:",
        ),
        (
            (
                "topic",
                question("tone", selective=SelectiveClassifier.at(0.5, ["angry"])),
            ),
            None,
        ),
    ],
)
def test_a_job_does_not_go_on_with_other_questions(
    tmp_path, source, changed, difference
):
    engine = dying_engine("dd")
    broken = [question(name, engine=engine) for name in ("topic", "tone")]
    with pytest.raises(EngineError):
        run(source, tmp_path / "out.csv", asking(*broken), part_rows=2)
    with pytest.raises(ConfigError) as caught:
        run(source, tmp_path / "out.csv", asking(*changed), part_rows=2)
    if difference is None:
        assert re.search(r"tone\.threshold: was none, now [0-9a-f]+", str(caught.value))
    else:
        assert difference in str(caught.value)


def test_columns_that_exist_already_are_refused(tmp_path):
    source = csv_of(tmp_path / "in.csv", [["a", "x"]], ("text", "topic"))
    with raises(
        f"The question 'topic' writes a column 'topic', and {str(source)!r} has one "
        "already: rename the question, or the column.",
        ConfigError,
    ):
        asking("topic").check(open_table(source))
    source = csv_of(tmp_path / "in.csv", [["a", "x"]], ("text", "tone.p(calm)"))
    table = open_table(source)
    asking("tone").check(table)
    with raises(
        f"The question 'tone' writes a column 'tone.p(calm)', and {str(source)!r} has "
        "one already: rename the question, or the column.",
        ConfigError,
    ):
        asking("tone", probabilities=True).check(table)


def test_columns_of_the_row_give_way_to_the_inputs(tmp_path):
    source = csv_of(tmp_path / "in.csv", [["a", "x"]], ("text", "error"))
    run(source, tmp_path / "out.csv", asking("topic", "tone"))
    header = rows_of(tmp_path / "out.csv")[0]
    assert header[-2:] == ["truncated", "predicted_error"]
