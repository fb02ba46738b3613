"""Rows that a person should look at: which, how they are written, and read back."""

import json
import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from classify import PromptTemplate
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import ConfigError, DataError, LabelError
from classify.estimators.asked import AskedLabels, AskedQuestion
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs import (
    Classification,
    Review,
    open_table,
    read_labelled,
    run_job,
    score_labelled,
    select_rows,
    stream_rows,
)
from classify.labels import LabelSet
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import csv_of, job_of, make, run
from tests.toy_model import hashed_engine

TEXTS = [f"text {at}" for at in range(40)]
LABELS = ("billing", "shipping", "a, b\nc")


@pytest.fixture
def source(tmp_path):
    rows = [[text, f"id-{at}"] for at, text in enumerate(TEXTS)]
    rows[3][0] = ""  # no text: set aside
    return csv_of(tmp_path / "in.csv", rows, columns=["text", "id"])


def table_of(path):
    return pd.read_csv(path, keep_default_na=False, dtype=str)


def job(**options):
    return job_of(make(LABELS), **options)


def reviewed(source, tmp_path, a_job=None, *, name="review.csv", **options):
    """Run a job, and return what was written to review."""
    review = Review(tmp_path / name, **options)
    outcome = run(source, tmp_path / "out.csv", a_job or job(), review=review)
    assert outcome.review.path == tmp_path / name
    return outcome.review


def expected_order(classifier, texts):
    """Return positions by margin, worked out one text at a time."""
    margins = []
    for at, text in enumerate(texts):
        if text:
            first, second = np.sort(classifier.predict_proba([text])[0])[::-1][:2]
            margins.append((first - second, at))
    return [at for _, at in sorted(margins)]


# ------------------------------------------------------------------------ which rows


def test_rows_with_the_smallest_margin_come_first(source, tmp_path):
    written = reviewed(source, tmp_path, n_rows=10)
    found = table_of(written.path)
    texts = table_of(source)["text"].tolist()
    # All are doubted for their label mass alike.
    order = expected_order(make(LABELS), texts)[:10]
    assert found["review_row"].tolist() == [str(at + 1) for at in order]
    assert found["id"].tolist() == [f"id-{at}" for at in order]
    assert found.columns.tolist() == [
        *("review_row", "text", "id", "label"),
        *("predicted_label", "probability", "label_mass", "unresolved", "truncated"),
        *("error", "review_labels", "review_reason", "review_sample"),
    ]
    out = table_of(tmp_path / "out.csv")
    for result in ("probability", "label_mass"):
        assert found[result].tolist() == [out[result][at] for at in order]
    assert found["predicted_label"].tolist() == [out["label"][at] for at in order]
    assert set(found["label"]) == {""}
    assert set(found["review_labels"]) == {"billing|shipping|a, b\nc"}
    assert set(found["review_sample"]) == {"selected"}
    proba = np.sort(make(LABELS).predict_proba([texts[order[0]]])[0])[::-1]
    pattern = rf"label mass 0\.\d\d; .+ {proba[0]:.2f}, .+ {proba[1]:.2f}"
    assert re.fullmatch(pattern, found["review_reason"][0], re.DOTALL)
    assert (written.n_rows, written.n_random, written.answers) == (10, 0, ("label",))


def test_abstained_rows_come_before_large_sets_and_these_before_others(
    source, tmp_path
):
    classifier = make(LABELS)
    scores = classifier.label_logprobs(TEXTS)
    middle = float(np.median(np.exp(scores.log_proba).max(axis=1)))
    selective = SelectiveClassifier.at(middle, sorted(LABELS))
    sets = SplitConformalSets(0.6).conformalize(
        scores, classifier.predict(TEXTS).tolist()
    )
    a_job = job_of(classifier, selective=selective, sets=sets)
    found = table_of(reviewed(source, tmp_path, a_job).path)
    out = table_of(tmp_path / "out.csv").iloc[found["review_row"].astype(int) - 1]
    tiers = [
        0 if abstained else 1 if len(names.split("|")) != 1 or names == "[]" else 2
        for abstained, names in zip(out["abstained"], out["label_set"], strict=True)
    ]
    assert tiers == sorted(tiers)
    assert set(tiers) >= {0, 2}
    assert "abstained (low probability)" in found["review_reason"][0]
    # What is withheld is no label here either.
    assert found["predicted_label"][0] == ""


def test_random_rows_do_not_depend_on_parts_or_shards(source, tmp_path):
    whole = reviewed(source, tmp_path, n_rows=10, random=0.5)
    content = whole.path.read_bytes()
    found = table_of(whole.path)
    assert found["review_sample"].tolist().count("random") == whole.n_random == 5
    for part_rows in (1, 7):
        review = Review(tmp_path / "parts.csv", 10, 0.5)
        options = {"review": review, "part_rows": part_rows}
        run(source, tmp_path / "other.csv", job(), **options)
        assert review.file.read_bytes() == content
    drawn = set()
    for shard in range(1, 5):
        table = select_rows(open_table(source), shard=(shard, 4))
        review = Review(tmp_path / "shard.csv", 10, 1.0)
        run_job(job(), table, tmp_path / "shard-out.csv", review=review)
        drawn |= set(table_of(review.file)["review_row"])
    # The rows of a shard are numbered as in the whole table.
    assert drawn == {str(at + 1) for at in range(40) if at != 3}


def test_a_job_that_was_stopped_writes_the_same(source, tmp_path):
    content = reviewed(source, tmp_path, n_rows=10, random=0.2).path.read_bytes()
    review = Review(tmp_path / "again.csv", 10, 0.2)
    output, n_asked = tmp_path / "stopped.csv", 0

    def stopping():
        nonlocal n_asked
        n_asked += 1
        return n_asked > 12

    options = {"review": review, "part_rows": 4}
    stopped = run(source, output, job(), stopping=stopping, **options)
    assert not stopped.is_complete
    assert stopped.review is None
    assert not review.file.exists()
    with pytest.raises(
        ConfigError, match=r"review rows: was 10, now 11\. Run it as it was started"
    ):
        run(source, output, job(), review=Review(review.file, 11, 0.2))
    with pytest.raises(
        ConfigError, match=r'review: was {"rows": 10, "random": 0\.2}, now nothing'
    ):
        run(source, output, job())
    run(source, output, job(), review=review)
    assert review.file.read_bytes() == content


def test_a_stream_writes_the_same(source, tmp_path):
    content = reviewed(source, tmp_path, n_rows=5).path.read_bytes()
    review = Review(tmp_path / "stream.csv", 5)
    outcome = stream_rows(job(), open_table(source), lambda _: None, review=review)
    assert outcome.review.n_rows == 5
    assert review.file.read_bytes() == content


@pytest.mark.parametrize("end", ["tsv", "jsonl", "parquet", "csv.gz"])
def test_each_format_of_tables_holds_the_same(source, tmp_path, end):
    if end == "parquet":
        pytest.importorskip("pyarrow")
    expected = table_of(reviewed(source, tmp_path, n_rows=5).path)
    written = reviewed(source, tmp_path, name=f"review.{end}", n_rows=5)
    found = open_table(str(written.path))
    [chunk] = found.chunks(100)
    assert list(map(str, chunk.cells("review_row"))) == expected["review_row"].tolist()
    assert chunk.cells("review_reason") == expected["review_reason"].tolist()
    assert found.columns == tuple(expected.columns)


# ---------------------------------------------------------------------- Label Studio


def several(tmp_path):
    """Return a job with a question of each kind."""
    tree = ["pet/dog", "pet/cat", "car"]
    about = ZeroShotMultiLabelClassifier(
        ["C", "C|C++"],
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        prompt=PromptTemplate("{text}\nTopic: {label}?", chat=False),
        thresholds=0.5,
    )
    engine = about.engine
    return Classification(
        questions=(
            AskedQuestion(
                name="topic", classifier=make(tree, engine=engine, kind="tree")
            ),
            AskedQuestion(name="mark", classifier=make(LABELS, engine=engine)),
            AskedLabels(name="about", classifier=about),
        )
    )


def test_tasks_have_the_answers_of_all_questions(source, tmp_path):
    written = reviewed(source, tmp_path, several(tmp_path), name="r.json", n_rows=4)
    tasks = json.loads(written.path.read_bytes())
    assert len(tasks) == 4
    assert written.answers == ("topic", "mark", "about")
    view = ET.parse(tmp_path / "r.xml").getroot()
    topic, mark, about = [tag for tag in view if tag.get("toName") == "review_text"]
    assert (topic.tag, topic.get("name"), topic.get("leafsOnly")) == (
        *("Taxonomy", "topic", "true"),
    )
    assert [each.get("value") for each in topic.iter("Choice")] == [
        *("pet", "pet/dog", "pet/cat", "car"),
    ]
    assert [each.get("value") for each in mark] == list(LABELS)
    assert (mark.get("choice"), about.get("choice")) == ("single", "multiple")
    assert [each.get("alias") for each in about] == [None, None, "[]"]
    for task in tasks:
        data, [prediction] = task["data"], task["predictions"]
        assert data["review_text"] == data["text"]
        results = {each["from_name"]: each for each in prediction["result"]}
        assert list(results) == ["topic", "mark", "about"]
        assert prediction["score"] == min(each["score"] for each in results.values())
        [path] = results["topic"]["value"]["taxonomy"]
        assert path in (["pet", "pet/dog"], ["pet", "pet/cat"], ["car"])
        assert results["mark"]["value"]["choices"][0] in LABELS
        assert set(results["about"]["value"]["choices"]) <= {"C", "C|C++", "[]"}
        assert prediction["model_version"].startswith("demo (classify ")


def test_labels_of_each_row_are_the_choices_of_its_task(tmp_path):
    source = csv_of(
        tmp_path / "in.csv", [["x", "a|b"], ["y", "b|c|d"]], columns=["text", "own"]
    )
    a_job = job_of(make(None), labels="own")
    written = reviewed(source, tmp_path, a_job, name="r.json")
    tasks = {
        each["data"]["text"]: each["data"]["review_labels"]
        for each in json.loads(written.path.read_bytes())
    }
    assert tasks["y"] == [{"value": "b"}, {"value": "c"}, {"value": "d"}]
    [control] = ET.parse(tmp_path / "r.xml").getroot().iter("Choices")
    assert control.get("value") == "$review_labels"
    found = table_of(reviewed(source, tmp_path, a_job).path)
    labels = dict(zip(found["text"], found["review_labels"], strict=True))
    assert labels == {"x": "a|b", "y": "b|c|d"}


def exported(tasks, answers, *, short=False):
    """Return what Label Studio exports after people answered.

    `answers` has for each task a list of answers: a mapping of controls to values, or
    None where it was skipped.
    """
    items = []
    for at, (task, given) in enumerate(zip(tasks, answers, strict=True), start=1):
        annotations = []
        for person, each in enumerate(given, start=1):
            results = [
                {"from_name": name, "to_name": "review_text", "value": value}
                for name, value in (each or {}).items()
            ]
            annotations.append(
                {
                    "id": 10 * at + person,
                    "completed_by": person,
                    "result": results,
                    "was_cancelled": each is None,
                    "ground_truth": False,
                }
            )
        if short:
            items += [
                {
                    **task["data"],
                    "id": at,
                    **{
                        each["from_name"]: _short(each["value"])
                        for each in annotation["result"]
                    },
                    "annotator": annotation["completed_by"],
                    "annotation_id": annotation["id"],
                }
                for annotation in annotations
                if not annotation["was_cancelled"]
            ]
        else:
            items.append({**task, "id": at, "annotations": annotations})
    return items


def _short(value):
    choices = value.get("choices", [])
    if len(choices) == 1:
        return choices[0]
    return value if choices else [value]


def choice(*names):
    return {"choices": list(names)}


def read(path, labels=LABELS, column="label", **options):
    return read_labelled(
        open_table(str(path)),
        labels and LabelSet.parse(list(labels)),
        fields=["text"],
        text_column="text",
        label_column=column,
        **options,
    )


@pytest.mark.parametrize("short", [False, True])
def test_an_export_is_read_as_labels(source, tmp_path, short):
    written = reviewed(source, tmp_path, name="r.json", n_rows=6)
    tasks = json.loads(written.path.read_bytes())
    answers = [
        [{"label": choice("billing")}],
        [{"label": choice("a, b\nc")}, {"label": choice("a, b\nc")}],
        [{"label": choice("billing")}, {"label": choice("shipping")}],
        [None],
        [],
        [None, {"label": choice("shipping")}],
    ]
    items = exported(tasks, answers, short=short)
    path = tmp_path / "export.json"
    path.write_text(json.dumps(items))
    labelled = read(path)
    texts = [each["data"]["text"] for each in tasks]
    assert labelled.labels.tolist() == ["billing", "a, b\nc", "billing", "shipping"]
    [error] = [row for row in labelled.rows if isinstance(row, LabelError)]
    assert str(error) == "its annotators disagree: 'billing', 'shipping'."
    assert [row["text"] for row in labelled.rows if row is not error] == [
        *(texts[0], texts[1], texts[5])
    ]
    if not short:  # which does not hold others
        assert labelled.unlabelled == {
            "there is no label: the task is skipped.": 1,
            "there is no label: the task is not annotated.": 1,
        }
    scored = score_labelled(make(LABELS), labelled)
    assert scored.set_aside["its annotators disagree: 'billing', 'shipping'."] == 1
    assert len(scored.labels) == 3


def test_ground_truth_decides_between_annotators(source, tmp_path):
    written = reviewed(source, tmp_path, name="r.json", n_rows=1)
    tasks = json.loads(written.path.read_bytes())
    answers = [[{"label": choice("billing")}, {"label": choice("shipping")}]]
    [item] = exported(tasks, answers)
    item["annotations"][1]["ground_truth"] = True
    path = tmp_path / "export.json"
    path.write_text(json.dumps([item]))
    assert read(path).labels.tolist() == ["shipping"]


@pytest.mark.parametrize("short", [False, True])
def test_answers_of_every_kind_are_read(source, tmp_path, short):
    written = reviewed(source, tmp_path, several(tmp_path), name="r.json", n_rows=3)
    tasks = json.loads(written.path.read_bytes())
    answers = [
        [
            {
                "topic": {"taxonomy": [["pet", "pet/cat"]]},
                "about": choice("C", "C|C++"),
            }
        ],
        [{"topic": {"taxonomy": [["car"]]}, "about": choice("C|C++")}],
        [{"about": choice("[]")}],
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(exported(tasks, answers, short=short)))
    topics = read(path, ["pet/dog", "pet/cat", "car"], "topic")
    assert topics.labels.tolist() == ["pet/cat", "car"]
    assert topics.unlabelled == {"there is no label: its cell is empty.": 1}
    about = read(path, ["C", "C|C++"], "about", any_number=True)
    assert about.labels.tolist() == [[1, 1], [0, 1], [0, 0]]


def test_an_answer_that_is_no_label_is_told_of(source, tmp_path):
    written = reviewed(source, tmp_path, name="r.json", n_rows=2)
    tasks = json.loads(written.path.read_bytes())
    answers = [[{"label": choice("Billing")}], [{"label": choice("bill", "ship")}]]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(exported(tasks, answers)))
    with pytest.raises(LabelError, match="holds 2 values that are not labels"):
        read(path)


# ------------------------------------------------------------------------ read back


def fill_in(path, labels):
    """Write labels into a file as a person does."""
    frame = table_of(path)
    frame["label"] = labels
    frame.to_csv(path, index=False)


def test_a_filled_table_is_read_as_labels(source, tmp_path):
    written = reviewed(source, tmp_path, n_rows=4, random=0.5)
    fill_in(written.path, ["billing", "a, b\nc", "", "shipping"])
    labelled = read(written.path, reviewed="all")
    assert labelled.labels.tolist() == ["billing", "a, b\nc", "shipping"]
    assert labelled.unlabelled.total() == 1
    assert (labelled.n_left_out, labelled.n_selected) == (0, 2)
    only = read(written.path)
    samples = table_of(written.path)["review_sample"].tolist()
    assert (only.n_left_out, only.n_selected) == (2, 0)
    assert len(only.rows) == sum(
        sample == "random" and at != 2 for at, sample in enumerate(samples)
    )


def test_two_copies_of_a_row_are_one(source, tmp_path):
    written = reviewed(source, tmp_path, n_rows=3)
    fill_in(written.path, ["billing", "shipping", "billing"])
    frame = table_of(written.path)
    other = frame.copy()
    other["label"] = ["billing", "billing", ""]
    pd.concat([frame, other]).to_csv(written.path, index=False)
    labelled = read(written.path)
    assert labelled.labels.tolist() == ["billing", "shipping", "billing"]
    assert str(labelled.rows[1]) == ("its annotators disagree: 'shipping', 'billing'.")
    assert isinstance(labelled.rows[1], LabelError)
    assert not labelled.unlabelled


def test_random_rows_that_are_not_labelled_are_told_of(source, tmp_path):
    written = reviewed(source, tmp_path, n_rows=4, random=0.25)
    sample = table_of(written.path)["review_sample"]
    fill_in(written.path, ["" if each == "random" else "billing" for each in sample])
    with pytest.raises(
        DataError,
        match=r"There are no labels in column 'label' of '.+': fill in those of some "
        r"of the rows drawn at random, or use all rows with reviewed='all'\.",
    ):
        read(written.path)


@pytest.mark.parametrize(
    ("random", "reviewed_as", "sentence"),
    [
        (
            None,
            "all",
            (
                "reviewed is for files with rows to review, which have a column "
                "'review_sample': leave it out."
            ),
        ),
        (
            0.0,
            "random",
            (
                "reviewed='random' needs rows that were drawn at random, and there are "
                "none: use reviewed='all', and draw some next time with review_random."
            ),
        ),
    ],
)
def test_a_choice_of_rows_that_are_not_there(
    source, tmp_path, random, reviewed_as, sentence
):
    path = source
    if random is not None:
        path = reviewed(source, tmp_path, n_rows=4, random=random).path
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        read(path, column=None, reviewed=reviewed_as)


# ------------------------------------------------------------------------- refusals


def test_an_input_with_labels_gets_a_column_of_its_own(tmp_path):
    source = csv_of(tmp_path / "in.csv", [["x", "old"]], columns=["text", "label"])
    written = reviewed(source, tmp_path)
    assert written.answers == ("reviewed_label",)
    found = table_of(written.path)
    assert found.iloc[0][["label", "reviewed_label"]].tolist() == ["old", ""]
    with pytest.raises(
        ConfigError,
        match="already has a column 'review_row', which is needed for the rows to "
        "review: rename the column",
    ):
        reviewed(written.path, tmp_path, name="again.csv")


def test_files_that_cannot_be_written_are_refused(source, tmp_path):
    table = open_table(source)
    for path, sentence in (
        (tmp_path / "out.csv", "is the output: give the file with rows to review"),
        (
            tmp_path / "out.csv.errors.csv",
            "is the output's list of invalid rows: give the file with rows to review",
        ),
        (tmp_path / "no" / "r.csv", "There is no folder"),
        (source, "is the input: give it another name"),
        (tmp_path / "r.txt", "does not show the format of the file"),
    ):
        with pytest.raises((ConfigError, DataError), match=sentence):
            run_job(job(), table, tmp_path / "out.csv", review=Review(path))
    for n_rows in (0, True, 2.5, "10"):
        with pytest.raises(
            ConfigError,
            match=r"'n_rows' parameter of Review must be a whole number, at least 1\.",
        ):
            Review("r.csv", n_rows)
    for share in (1.5, -0.1, math.nan, "0.5"):
        with pytest.raises(
            ConfigError,
            match=r"'random' parameter of Review must be a number, from 0 to 1\.",
        ):
            Review("r.csv", random=share)
