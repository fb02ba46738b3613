"""Tasks with several questions: task files, and the commands that read them."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from typer.testing import CliRunner

from classify import (
    LabelCalibrator,
    PromptTemplate,
    Question,
    SelectiveClassifier,
    TaskClassifier,
    ZeroShotClassifier,
)
from classify.cli import app
from classify.config import Task
from classify.errors import ClassifyError, ConfigError, DataError, InputError
from classify.estimators.artefact import Artefact
from classify.rows.explanation import Explanations
from classify.verbalizer import Verbalizer
from tests.html_pages import Page

CODEBOOK = Path(__file__).parents[1] / "configs" / "ticket_codebook.yaml"
TEXTS = ["I was charged twice on my credit card.", "", "Where is my parcel?"]
TWO = {"labels": ["low", "high"]}


def task_of(**questions):
    return Task.parse({"questions": questions})


def run(*arguments, code=0, **options):
    result = CliRunner().invoke(app, [*map(str, arguments)], **options)
    assert result.exit_code == code, result.output
    return result


def said(result):
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture
def tickets(tmp_path):
    path = tmp_path / "tickets.csv"
    pd.DataFrame({"id": [7, 8, 9], "text": TEXTS}).to_csv(path, index=False)
    return path


def test_a_question_is_asked_as_the_task_says_unless_it_says_more():
    task = Task.parse(
        {
            "prompt": {"system": "You code messages.", "answer_prefix": "Code:"},
            "verbalizer": {"case_variants": True},
            "tolerance": 0,
            "questions": {
                "urgency": {**TWO, "prompt": {"answer_prefix": "Urgency:"}},
                "tone": {"labels": {"calm": None, "angry": "The writer shouts."}},
            },
        }
    )
    parts = task.by_question()
    assert list(parts) == ["urgency", "tone"]
    assert parts["urgency"].prompt == PromptTemplate(
        system="You code messages.", answer_prefix="Urgency:", text_position="first"
    )
    assert parts["tone"].prompt == replace(task.prompt, text_position="first")
    assert parts["tone"].labels["angry"].description == "The writer shouts."
    assert {part.verbalizer for part in parts.values()} == {
        Verbalizer(case_variants=True)
    }
    assert {part.scoring.tolerance for part in parts.values()} == {0}
    assert parts["tone"].by_question() == {"": parts["tone"]}


def test_our_recipe_has_the_text_first_in_a_task_with_questions():
    def positions(**settings):
        task = Task.parse({"questions": {"a": TWO, "b": {"labels": ["x", "y"]}}})
        parts = task.changed(settings).by_question().values()
        return {part.prompt.text_position for part in parts}

    assert positions() == {"first"}
    assert positions(text_position="last") == {"last"}
    assert positions(template="{text}: {labels}?") == {"auto"}
    # Yes/no questions have no other form.
    parts = Task.from_yaml(CODEBOOK).changed({"text_position": "last"}).by_question()
    assert parts["topic"].prompt.text_position == "last"
    assert parts["mentions"].prompt.text_position == "first"
    # A template of one's own has its own place for the text.
    assert parts["urgency"].prompt.text_position == "auto"
    own = {**TWO, "prompt": "{text}: {labels}?"}
    task = Task.parse({"prompt": {"text_position": "last"}, "questions": {"a": own}})
    assert task.by_question()["a"].prompt.text_position == "auto"
    # One question by itself or with others is asked in the same words.
    assert task_of(a=TWO).by_question()["a"].prompt.text_position == "first"
    assert Task.parse(TWO).by_question()[""].prompt.text_position == "auto"
    member = PromptTemplate(chat=False)
    several = PromptTemplate(ensemble=[member])
    asked = task_of(a={**TWO, "prompt": several}).by_question()["a"].prompt
    assert asked.ensemble == (replace(member, text_position="first"),)


def test_an_option_changes_every_question():
    task = Task.from_yaml(CODEBOOK).changed({"system": "Short.", "tolerance": 0.0})
    parts = task.by_question()
    assert {part.prompt.system for part in parts.values()} == {"Short."}
    assert parts["urgency"].prompt.answer_prefix == "Urgency:"
    assert {part.scoring.tolerance for part in parts.values()} == {0.0}


def test_questions_can_be_written_in_python():
    made = Task(
        questions=(
            Question(name="urgency", labels=["low", "high"], prompt="{text}\nUrgent:"),
        )
    )
    assert made.question(None).prompt == PromptTemplate("{text}\nUrgent:")
    assert made.question("urgency").labels.names == ("low", "high")


MUST_BE = "'questions' must be a mapping of names to questions, each with its labels. "
ALLOWED = (
    "Allowed: labels, prompt, verbalizer, kind, min_node_probability, tree_scoring, "
    "escape, yes_words, no_words, threshold, target_risk, sets, target, calibration."
)
BAD = [
    ({}, MUST_BE + "Got {} instead."),
    (["tone"], MUST_BE + "Got ['tone'] instead."),
    ({"tone": None}, MUST_BE + "Got {'tone': None} instead."),
    ({"tone": ["calm", "angry"]}, MUST_BE + "Got {'tone': ['calm', 'angry']} instead."),
    (
        {"a.b": TWO},
        (
            "The question 'a.b' must have a name without dots, which separate it from "
            "the names of its results: write 'a_b'."
        ),
    ),
    ({"": TWO}, "A question's name must not be empty. Got '' instead."),
    (
        {True: TWO},
        (
            "A question's name must be a string. Got True of type bool instead. "
            "Write it in quotes."
        ),
    ),
    (
        {"error": TWO},
        (
            "A question cannot be called 'error', which is a column of every output: "
            "give it another name."
        ),
    ),
    (
        {"tone": {}},
        "The question 'tone' has no labels: give it labels, such as [low, high].",
    ),
    (
        {"tone": {"labels": ["calm"]}},
        (
            "Classification needs at least two labels. Got only 'calm' instead: add "
            "the others, for example 'other'."
        ),
    ),
    (
        {"tone": {**TWO, "label": 1}},
        "Unknown key 'questions.tone.label' in the settings, question 'tone'. Did you "
        "mean 'labels'? " + ALLOWED,
    ),
    (
        {"tone": {**TWO, "prompt": {"chat": "maybe"}}},
        (
            "'questions.tone.prompt.chat' must be true, false or auto. Got 'maybe' "
            "instead."
        ),
    ),
    (
        {"tone": TWO, "urgency": TWO},
        (
            "The questions 'tone' and 'urgency' have the same labels and the same "
            "prompt, so they have the same answers: give each its own prompt."
        ),
    ),
]


@pytest.mark.parametrize(("questions", "message"), BAD)
def test_what_a_question_cannot_be(questions, message):
    with pytest.raises(ClassifyError, match=f"^{re.escape(message)}$"):
        Task.parse({"questions": questions})


def test_two_questions_of_one_name():
    twice = (
        Question(name="a", labels=["b", "c"]),
        Question(name="a", labels=["d", "e"]),
    )
    message = "There is more than one question 'a': rename one of them."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Task(questions=twice)


@pytest.mark.parametrize(
    ("key", "value"),
    [("labels", ["a", "b"]), ("labels_column", "which"), ("calibration", "c.json")],
)
def test_what_belongs_to_one_question(key, value):
    questions = {"tone": TWO}
    rest = (
        "is for a task with one question, but this one has several (tone): leave it "
        "out, or give it to a question."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{key!r} {rest}')}$"):
        Task.parse({"questions": questions, key: value})
    option = "--" + key.replace("_", "-")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{option} {rest}')}$"):
        Task.parse({"questions": questions}).changed({key: value})


def test_a_file_and_its_question_are_named(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("questions:\n  tone:\n    labels: [calm]\n")
    message = (
        f"Task file {str(path)!r}, question 'tone': Classification needs at least two "
        "labels. Got only 'calm' instead: add the others, for example 'other'."
    )
    with pytest.raises(ClassifyError, match=f"^{re.escape(message)}$"):
        Task.from_yaml(path)
    path.write_text("questions:\n  a:\n    labels: [b, c]\n  a:\n    labels: [d, e]\n")
    with pytest.raises(ConfigError, match="the key 'a' occurs twice"):
        Task.from_yaml(path)


def test_a_command_with_one_question_asks_which(tmp_path):
    message = (
        "The task has several questions (topic, tone, urgency, mentions), and this "
        "needs one: name it with --question."
    )
    labelled = tmp_path / "labelled.csv"
    labelled.write_text("text,label\na,low\n")
    for command in ("calibrate", "tune"):
        result = run(command, labelled, "--task", CODEBOOK, code=2)
        assert message in said(result)
    result = run(
        "evaluate", labelled, "--task", CODEBOOK, "--question", "topik", code=2
    )
    assert (
        "There is no question 'topik'. Did you mean 'topic'? The questions are topic, "
        "tone, urgency, mentions."
    ) in said(result)
    result = run(
        *("evaluate", labelled, "--labels", "low,high", "--question", "topic"), code=2
    )
    assert (
        "--question topic is for a task with questions, but this one has none: leave "
        "it out."
    ) in said(result)


def test_predict_writes_columns_for_each_question(tickets, tmp_path):
    output = tmp_path / "out.csv"
    result = run("predict", tickets, "--task", CODEBOOK, "-o", output)
    found = pd.read_csv(output, keep_default_na=False)
    assert found.columns.tolist() == [
        *("id", "text", "topic", "topic.probability", "topic.label_mass"),
        *("topic.unresolved", "tone", "tone.probability", "tone.label_mass"),
        *("tone.unresolved", "urgency", "urgency.probability", "urgency.label_mass"),
        *("urgency.unresolved", "mentions", "mentions.label_mass"),
        *("mentions.unresolved", "truncated", "error"),
    ]
    assert found["topic"].tolist() == ["billing", "", "shipping"]
    assert "Labels of topic: billing 1, shipping 1; mean label mass" in said(result)
    assert "Labels of urgency:" in said(result)
    assert "3 rows" in said(result)


def test_a_table_has_a_line_for_each_question(tickets):
    shown = run(
        *("predict", tickets, "--task", CODEBOOK, "--table"), env={"COLUMNS": "80"}
    ).stdout
    lines = [line.rstrip() for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[2:]] == [
        *("1", "topic", "tone", "urgency", "mentions"),
        *("2", "3", "topic", "tone", "urgency", "mentions"),
    ]
    assert "there is no text" in shown


def test_one_text(tickets):
    text = "Where is my parcel?"
    found = json.loads(run("predict", "--task", CODEBOOK, "--text", text).stdout)
    assert list(found) == ["text", "questions"]
    assert list(found["questions"]) == ["topic", "tone", "urgency", "mentions"]
    assert found["questions"]["mentions"]["labels"] == []
    topic = found["questions"]["topic"]
    assert topic["label"] == "shipping"
    assert sum(topic["probabilities"].values()) == pytest.approx(1)


def test_a_threshold_is_that_of_every_question(tickets, tmp_path):
    output = tmp_path / "out.csv"
    run("predict", tickets, "--task", CODEBOOK, "-o", output, "--threshold", "1")
    found = pd.read_csv(output, keep_default_na=False)
    for name in ("topic", "tone", "urgency"):
        assert set(found[name]) == {""}
        assert found[f"{name}.abstained"].tolist()[0] == "low probability"
    assert found["mentions"].tolist() == ["[]", "", "[]"]


def test_a_promise_needs_a_calibration_of_each_question(tickets):
    result = run(
        *("predict", tickets, "--task", CODEBOOK, "--target-risk", "0.1"), code=2
    )
    assert (
        "Question 'topic': --target-risk needs labelled texts: fit it with classify "
        "calibrate … --target-risk 0.1, and give the file as --calibration."
    ) in said(result)


def test_an_estimate_counts_the_prompts_of_all_questions(tickets):
    def tokens(*arguments):
        shown = run("predict", tickets, *arguments, "--dry-run", code=0).stdout
        return float(
            re.search(r"^tokens +([\d,]+)", shown, re.MULTILINE)[1].replace(",", "")
        )

    task = Task.from_yaml(CODEBOOK)
    alone = tokens("--labels", "billing,shipping,refund")
    assert tokens("--task", CODEBOOK) > 2 * alone
    assert len(task.questions) == 4


def test_labels_shows_every_question():
    shown = run("labels", "--task", CODEBOOK).stdout
    for name in ("topic", "tone", "urgency"):
        assert re.search(rf"^{name}$", shown, re.MULTILINE)
    found = json.loads(run("labels", "--task", CODEBOOK, "--json").stdout)
    assert list(found["questions"]) == ["topic", "tone", "urgency", "mentions"]


def test_a_question_is_evaluated_by_itself(tmp_path):
    labelled = tmp_path / "labelled.csv"
    rows = [("Where is my parcel?", "shipping"), ("I was charged twice.", "billing")]
    pd.DataFrame(rows * 4, columns=["text", "label"]).to_csv(labelled, index=False)
    result = run("evaluate", labelled, "--task", CODEBOOK, "--question", "topic")
    assert "Accuracy" in result.stdout


def test_a_column_that_exists_is_refused_before_a_model_is_loaded(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("text,topic\na,b\n")
    result = run("predict", source, "--task", CODEBOOK, "--model", "nowhere", code=2)
    assert "The question 'topic' writes a column 'topic', and" in said(result)


def test_an_estimator_answers_what_single_questions_answer():
    task = Task.from_yaml(CODEBOOK)
    texts = pd.Series(TEXTS)[[0, 2]]
    clf = TaskClassifier(CODEBOOK).fit(texts)
    proba, labels = clf.predict_proba(texts), clf.predict(texts)
    assert proba.index.tolist() == labels.index.tolist() == [0, 2]
    names = ["topic", "tone", "urgency", "mentions"]
    assert labels.columns.tolist() == list(clf.classes_) == names
    for name, part in task.by_question().items():
        alone = part.classifier()
        assert proba[name].columns.tolist() == alone.classes_.tolist()
        expected = alone.predict_proba(texts)
        np.testing.assert_allclose(proba[name].to_numpy(), expected, atol=1e-5)
        found = alone.predict(texts).tolist()
        if part.is_multi:
            known = proba[name].columns.tolist()
            found = [[known[at] for at, yes in enumerate(row) if yes] for row in found]
        assert labels[name].tolist() == found


def test_an_estimator_has_parameters_as_others_have():
    clf = clone(TaskClassifier({"questions": {"urgency": TWO}}))
    assert clf.get_params()["task"] == {"questions": {"urgency": TWO}}
    copied = pickle.loads(pickle.dumps(clf))
    assert copied.predict(["a"]).columns.tolist() == ["urgency"]
    message = (
        "The 'task' parameter of TaskClassifier must be a Task, a mapping, or the path "
        "of a task file. Got 3 instead."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        TaskClassifier(3).predict(["a"])


def test_a_frame_has_the_columns_of_a_job(tickets, tmp_path):
    run("predict", tickets, "--task", CODEBOOK, "-o", tmp_path / "out.csv")
    expected = pd.read_csv(tmp_path / "out.csv")
    clf = TaskClassifier(Task.from_yaml(CODEBOOK))
    with pytest.raises(DataError, match=r"^Row 1: .* Pass on_error='set_aside'"):
        clf.classify_frame(pd.read_csv(tickets))
    found = clf.classify_frame(pd.read_csv(tickets), on_error="set_aside")
    assert found.columns.tolist() == expected.columns.tolist()
    assert found["topic"].fillna("").tolist() == ["billing", "", "shipping"]
    np.testing.assert_allclose(
        found["topic.probability"], expected["topic.probability"], atol=1e-5
    )


def test_a_task_without_questions_has_a_column_called_label():
    clf = TaskClassifier({"labels": ["billing", "shipping"]})
    assert clf.predict(["Where is my parcel?"])["label"].tolist() == ["shipping"]


def test_an_explanation_of_each_question():
    clf, texts = TaskClassifier(CODEBOOK), TEXTS[:1]
    found, proba = clf.explain(TEXTS[0]), clf.predict_proba(texts)
    assert list(found) == ["topic", "tone", "urgency", "mentions"]
    for name, explanation in found.items():
        shown = {each.label: each.probability for each in explanation.labels}
        assert shown == pytest.approx(proba[name].iloc[0].to_dict(), abs=1e-5)
        assert f"{name}\n{explanation}" in str(found)
    alone = Task.from_yaml(CODEBOOK).question("tone").classifier().explain(TEXTS[0])
    assert str(found["tone"]) == str(alone)
    page = Page(found._repr_html_())
    n_tables = [len(Page(each._repr_html_()).tables) for each in found.values()]
    assert len(page.tables) == sum(n_tables)
    assert list(TaskClassifier(TWO).explain("a")) == ["label"]
    named = Explanations({"<b>": alone})
    assert "b" not in Page(named._repr_html_()).tags()


def test_only_one_text_is_explained():
    clf = TaskClassifier({"questions": {"urgency": TWO}})
    with pytest.raises(InputError, match=r"^explain takes one text: a string, or a "):
        clf.explain(["a"])
    with pytest.raises(
        InputError,
        match=r"^The text cannot be explained: urgency: there is no text: it is empty "
        r"or missing\.$",
    ):
        clf.explain("")


def test_an_error_names_its_question():
    strict = {"template": "{text}\nTone:", "chat": False, "too_long": "error"}
    clf = TaskClassifier(
        {
            "questions": {
                "topic": {"labels": ["billing", "shipping"]},
                "tone": {"labels": ["calm", "angry"], "prompt": strict},
            }
        }
    )
    texts = ["Where is my parcel?", "late " * 3000]
    with pytest.raises(DataError, match=r"^Row 1: tone: .* Pass on_error='set_aside'"):
        clf.classify_frame(pd.DataFrame({"text": texts}))
    with pytest.raises(ClassifyError, match=r"^Text 1: tone: "):
        clf.predict(texts)
    found = clf.classify_frame(pd.DataFrame({"text": texts}), on_error="set_aside")
    assert found["topic"].notna().all()
    assert found["tone"].notna().tolist() == [True, False]
    assert found["error"].str.startswith("tone: ").tolist() == [False, True]
    assert found["truncated"].tolist() == [False, True]


def test_each_question_has_a_calibration_of_its_own(tmp_path):
    labelled = tmp_path / "labelled.csv"
    rows = [("Where is my parcel?", "shipping"), ("I was charged twice.", "billing")]
    pd.DataFrame(rows * 30, columns=["text", "label"]).to_csv(labelled, index=False)
    task = {"questions": {"topic": {"labels": ["billing", "shipping"]}, "tone": TWO}}
    path = tmp_path / "task.yaml"
    path.write_text(json.dumps(task))
    fitted = tmp_path / "topic.json"
    run(
        *("calibrate", labelled, "--task", path, "--question", "topic"),
        *("--method", "temperature", "--force", "-o", fitted),
    )
    task["questions"]["topic"]["calibration"] = str(fitted)
    path.write_text(json.dumps(task))
    texts = [text for text, _ in rows]
    found = TaskClassifier(path).predict_proba(texts)
    parts = Task.from_yaml(path).by_question()
    for name, part in parts.items():
        expected = part.classifier().predict_proba(texts)
        np.testing.assert_allclose(found[name].to_numpy(), expected, atol=1e-5)
    task["questions"]["tone"]["calibration"] = str(fitted)
    path.write_text(json.dumps(task))
    result = run("predict", labelled, "--task", path, "-o", tmp_path / "o.csv", code=2)
    assert "Question 'tone': The calibration" in said(result)


def test_options_are_for_the_questions_that_can_have_them():
    task = Task.from_yaml(CODEBOOK).changed({"sets": 0.9, "target": "f1"})
    found = {name: part.decisions for name, part in task.by_question().items()}
    assert (found["topic"].sets, found["topic"].target) == (0.9, None)
    assert (found["mentions"].sets, found["mentions"].target) == (None, "f1")
    assert found["mentions"].threshold is None  # the option takes its place
    assert found["urgency"].sets == 0.9
    fixed = task.changed({"threshold": 0.7}).by_question()["mentions"].decisions
    assert (fixed.threshold, fixed.target) == (0.7, None)


def test_a_task_decides_in_python_as_predict_does(tmp_path):
    texts = ["My parcel is late.", "Hm.", "I was charged twice."]
    settings = {
        "questions": {
            "topic": {"labels": ["billing", "shipping"], "threshold": 0.9},
            "tone": {"labels": ["calm", "angry"]},
        }
    }
    task = tmp_path / "task.yaml"
    task.write_text(json.dumps(settings))
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    frame = pd.DataFrame({"text": texts})
    frame.to_csv(source, index=False)
    arguments = ["predict", str(source), "--task", str(task), "--output", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr

    clf = TaskClassifier(settings)
    found = clf.classify_frame(frame)
    expected = pd.read_csv(out, keep_default_na=False)
    assert found["topic.abstained"].tolist() == expected["topic.abstained"].tolist()
    assert found["topic"].fillna("").tolist() == expected["topic"].tolist()
    assert {"", "low probability"} == {*expected["topic.abstained"]}
    assert "tone.abstained" not in found
    missing = {"questions": {"topic": {"labels": ["a", "b"], "target_risk": 0.1}}}
    sentence = (
        "Question 'topic': target_risk needs labelled texts: fit it with classify "
        "calibrate … --target-risk 0.1, and give the file as calibration."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        TaskClassifier(missing).predict(texts)


def test_a_threshold_that_was_fitted_again_applies_at_once(tmp_path):
    texts = ["Where is my parcel?", "I was charged twice."] * 30
    true = ["shipping", "billing"] * 30
    clf = ZeroShotClassifier(["billing", "shipping"])
    scores, fingerprint = clf.label_logprobs(texts), clf.scorer().fingerprint()
    calibrator = LabelCalibrator("temperature")
    calibrator.fit(scores, true, fingerprint=fingerprint)
    path = tmp_path / "topic.json"

    def fit_again(labels):
        proba = np.exp(calibrator.transform(scores))
        selective = SelectiveClassifier(0.1, classes=scores.classes)
        selective.fit(proba, labels)
        Artefact(calibrator, selective, None).save(path)

    fit_again(true)
    task = {
        "labels": ["billing", "shipping"],
        "calibration": str(path),
        "target_risk": 0.1,
    }
    clf = TaskClassifier(task)
    assert clf.predict(texts[:2]).iloc[:, 0].tolist() == true[:2]
    fit_again(true[::-1])  # all wrong: nothing can be answered
    assert clf.predict(texts[:2]).iloc[:, 0].tolist() == [None, None]
    fit_again(true)
    assert clf.predict(texts[:2]).iloc[:, 0].tolist() == true[:2]
