"""`classify serve` with a task: several questions, of all kinds, about each text."""

import asyncio
import json
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

from classify import (
    SelectiveClassifier,
    TaskClassifier,
    ZeroShotClassifier,
    ZeroShotMultiLabelClassifier,
)
from classify.cli import app as cli
from classify.config import Task
from classify.errors import ConfigError
from classify.estimators.asked import asked_question
from classify.rows.results import column_name
from classify.serve import ServeSettings, make_app
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import NO_TEXT, asked, make
from tests.toy_model import hashed_engine

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from tests.test_serve import (  # noqa: E402 it needs them too
    answer_of_command,
    ask,
    client_of,
    refused,
    results_of,
)

TEXTS = ["Where is my parcel?", "I was charged twice.", "", "late " * 3000]
KINDS = {
    "topic": {"labels": ["shipping", "billing"]},
    "urgency": {
        "labels": {"low": {"value": 1}, "urgent": {"value": 5}},
        "kind": "ordinal",
    },
    "product": {"labels": ["pet/dog", "pet/cat", "car"], "kind": "tree"},
    "mentions": {
        "labels": {"parcel": "a delivery", "invoice": "a payment"},
        "kind": "multi",
        "threshold": {"parcel": 0.1, "invoice": 0.9},
    },
    # It has no answer where the text is long.
    "tone": {
        "labels": ["calm", "angry"],
        "prompt": {"template": "{text}\nTone:", "chat": False, "too_long": "error"},
    },
}


def asked_of(task):
    return [
        asked_question(part.classifier(), name)
        for name, part in task.by_question().items()
    ]


def columns_of(result):
    """Return a row's result as the columns that `classify predict` writes."""
    columns = {}
    for question, each in result["questions"].items():
        for name, value in each.items():
            if name == "probabilities":
                own = {f"p({label})": share for label, share in value.items()}
            elif isinstance(value, dict):
                own = {f"{name}({label})": bound for label, bound in value.items()}
            else:
                own = {name: "|".join(value) if isinstance(value, list) else value}
            for key, cell in own.items():
                # Those of the row are compared by themselves.
                if key not in ("truncated", "error"):
                    columns[column_name(question, key)] = cell
    return columns


def same(result, row):
    """Assert that a result has all that a row of a table has, and no more."""
    expected = {
        name: None if pd.isna(value) or value == "[]" else value
        for name, value in row.items()
        if name not in ("text", "error", "truncated")
    }
    found = columns_of(result)
    if result["error"] is None:
        assert found.keys() == expected.keys()
        truncated = [each["truncated"] for each in result["questions"].values()]
        assert any(truncated) == bool(row["truncated"])
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=1e-5), name
        else:  # nothing is an empty text, or null, or an empty list
            assert (found.get(name) or None) == (value or None), name
    assert result["error"] == (row["error"] or None)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """All kinds; one question is calibrated, and one has thresholds."""
    task = Task.parse({"questions": KINDS})
    fitted = task.question("topic").choice_classifier()
    fitted.set_params(calibrator="prior_matching").fit(
        [f"text {at}" for at in range(20)]
    )
    path = tmp_path_factory.mktemp("fitted") / "topic.json"
    fitted.calibrator_.save(path)
    topic = KINDS["topic"] | {"calibration": str(path)}
    return Task.parse({"questions": KINDS | {"topic": topic}})


def test_answers_are_those_of_the_task(task):
    frame = TaskClassifier(task).classify_frame(
        pd.DataFrame({"text": TEXTS}),
        probabilities=True,
        bounds=True,
        on_error="set_aside",
    )
    app = make_app(questions=asked_of(task))
    results = results_of(app, texts=TEXTS)
    for result, row in zip(results, frame.to_dict("records"), strict=True):
        same(result, row)
    assert [result["error"] for result in results[:3]] == [None, None, NO_TEXT]
    assert results[3]["error"].startswith("tone: ")
    for result in results[:2]:
        found, limits = result["questions"]["mentions"], KINDS["mentions"]["threshold"]
        assert found["labels"] == sorted(
            name for name in limits if found["lower"][name] >= limits[name]
        )
    long = results[3]["questions"]
    assert (long["tone"]["label"], long["topic"]["error"]) == (None, None)
    assert "tone: " + long["tone"]["error"] == results[3]["error"]
    empty = results[2]["questions"]
    assert empty["mentions"] == {"labels": None, "error": NO_TEXT}
    assert empty["topic"] == {"label": None, "error": NO_TEXT}
    schema = ask(app, path="/openapi.json").json()["components"]["schemas"]["Result"]
    for result in results:
        assert result.keys() <= schema["properties"].keys()
        for each in result["questions"].values():
            assert each.keys() <= schema["properties"].keys()

    some = results_of(app, texts=TEXTS[:1], questions=["mentions", "topic"])
    assert list(some[0]["questions"]) == ["mentions", "topic"]
    for name, found in some[0]["questions"].items():
        same({"questions": {name: found}, "error": None}, one_question(frame, name))
    raw = Task.parse({"questions": KINDS})  # without the calibration
    [plain] = results_of(make_app(questions=asked_of(raw)), texts=TEXTS[:1])
    one = results[0]["questions"]["topic"]["probability"]
    assert plain["questions"]["topic"]["probability"] != pytest.approx(one)


def one_question(frame, name):
    row = frame.iloc[0].to_dict()
    return {
        column: value
        for column, value in row.items()
        if column.partition(".")[0] in (name, "truncated", "error")
    }


def test_the_command_serves_what_predict_writes(tmp_path):
    task = tmp_path / "task.yaml"
    questions = {name: KINDS[name] for name in ("topic", "mentions")}
    questions["topic"] = questions["topic"] | {"threshold": 0.9}
    task.write_text(json.dumps({"questions": questions}))
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    pd.DataFrame({"text": TEXTS[:2]}).to_csv(source, index=False)
    command = ["predict", source, "--task", task, "-o", output]
    command = [*map(str, command), "--probabilities", "--bounds"]
    assert CliRunner().invoke(cli, command).exit_code == 0
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    for row in rows:
        for name in ("mentions", "mentions.uncertain"):
            row[name] = "|".join(row[name])
    body = json.dumps({"texts": TEXTS[:2]})
    answer, _ = answer_of_command(["serve", str(task)], body)
    results = answer.json()["results"]
    for result, row in zip(results, rows, strict=True):
        same(result, row)
        assert result["questions"]["topic"]["abstained"] in ("", "low probability")
    one, _ = answer_of_command(["serve", str(task), "--question", "mentions"], body)
    found = one.json()["results"]
    assert [each["labels"] for each in found] == [
        each["questions"]["mentions"]["labels"] for each in results
    ]
    assert all("questions" not in each for each in found)


@pytest.mark.parametrize("kind", ["multi", "ordinal", "tree"])
def test_only_a_choice_can_leave_its_labels_to_requests(kind):
    result = CliRunner().invoke(cli, ["serve", "--kind", kind])
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert "There are no labels: give --labels, --labels-file, or a --task" in said


def multi(engine, **options):
    return ZeroShotMultiLabelClassifier(
        ["shipping", "billing"], engine=engine, tokenizer=byte_level(), **options
    )


def test_one_question_with_any_number_of_answers():
    clf = multi(hashed_engine(len(byte_level())), thresholds={"billing": 0.5})
    proba, predicted = clf.predict_proba(TEXTS[:2]), clf.predict(TEXTS[:2])
    app = make_app(clf)
    results = results_of(app, texts=[*TEXTS[:2], None])
    for at, result in enumerate(results[:2]):
        names = clf.classes_.tolist()
        assert result["probabilities"] == dict(zip(names, proba[at], strict=True))
        assert list(result["probabilities"]) == ["shipping", "billing"]
        applying = zip(names, predicted[at], strict=True)
        assert result["labels"] == [name for name, yes in applying if yes]
        assert result["lower"].keys() == result["upper"].keys() == {*names}
    assert results[2] == {"labels": None, "error": NO_TEXT}
    # The other request forms have questions of their own.
    body = {"state": "x", "questions": {"urgent": {"type": "noul"}}}
    found = ask(app, body, path="/v1/systemone").json()["answers"]["urgent"]["noul"]
    alone = ZeroShotClassifier(
        ["a", "b"], engine=hashed_engine(len(byte_level())), tokenizer=byte_level()
    )
    expected = ask(make_app(alone), body, path="/v1/systemone").json()["answers"][
        "urgent"
    ]
    assert found == pytest.approx(expected["noul"])


def test_all_that_is_asked_about_a_text_is_asked_in_turn():
    engine = hashed_engine(len(byte_level()), window=1)
    topic = make(engine=engine, template="{text}\nTopic:")
    tone = make(("calm", "angry"), engine=engine, template="{text}\nTone:")
    questions = [asked_question(topic, "topic"), asked_question(tone, "tone")]
    app = make_app(questions=questions)
    assert [each["error"] for each in results_of(app, texts=["a", "b"])] == [None] * 2
    prompts = dict.fromkeys(each.removesuffix("\nTone:") for each in asked(engine))
    assert list(prompts) == ["a", "b"]
    order = [*dict.fromkeys(asked(engine))]
    assert order == ["a", "a\nTone:", "b", "b\nTone:"]


def test_thresholds_of_a_question():
    questions = [
        asked_question(
            make(),
            "topic",
            selective=SelectiveClassifier.at(0.999, ["billing", "shipping"]),
        ),
        asked_question(make(("calm", "angry")), "tone"),
    ]
    [result] = results_of(make_app(questions=questions), texts=TEXTS[:1])
    topic, tone = result["questions"]["topic"], result["questions"]["tone"]
    assert (topic["label"], topic["abstained"]) == (None, "low probability")
    assert tone["label"] in ("calm", "angry")
    assert "abstained" not in tone


def two_questions(**options):
    tone = make(("calm", "angry"), template="{title}: {text}\nTone:")
    questions = [asked_question(make(), "topic"), asked_question(tone, "tone")]
    return make_app(questions=questions, **options)


def test_rows_have_what_each_question_needs():
    rows = [{"body": "Hello", "title": "x"}, {"body": "Hello"}]
    good, bad = results_of(two_questions(text_column="body"), rows=rows)
    assert good["error"] is None
    assert bad["error"] == "tone: there is no column 'title', which the prompt needs."
    assert bad["questions"]["topic"] == good["questions"]["topic"]
    assert results_of(two_questions(), rows=[]) == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            {"texts": ["a"], "questions": ["topics"]},
            (
                "There is no question 'topics'. Did you mean 'topic'? The questions "
                "are topic, tone."
            ),
        ),
        (
            {"texts": ["a"], "questions": []},
            (
                "There are no questions: name some, or leave questions out to get the "
                "answers to all."
            ),
        ),
        (
            {"texts": ["a"], "questions": ["topic"], "labels": ["billing"]},
            (
                "A request can have labels if the server has a single question, "
                "without a name, that has one answer: leave labels out."
            ),
        ),
        ({"texts": ["a"]}, "The prompt needs the columns 'title', 'text': give rows."),
    ],
)
def test_requests_that_are_refused(body, sentence):
    assert refused(two_questions(), body) == sentence


def test_questions_of_a_server_that_has_one():
    sentence = "This server has a single question, without a name: leave questions out."
    body = {"texts": ["a"], "questions": ["topic"]}
    assert refused(make_app(make()), body) == sentence
    engine = hashed_engine(len(byte_level()))
    assert refused(make_app(multi(engine)), body) == sentence


def test_many_clients_with_several_questions():
    engine = hashed_engine(len(byte_level()), window=16)
    questions = [
        asked_question(make(engine=engine), "topic"),
        asked_question(multi(engine), "mentions"),
    ]
    app = make_app(questions=questions)

    async def everyone():
        async with client_of(app, timeout=None) as http:
            bodies = [{"texts": [f"client {at}", ""]} for at in range(50)]
            return await asyncio.gather(
                *(http.post("/v1/classify", json=body) for body in bodies)
            )

    answers = asyncio.run(everyone())
    found = [each.json()["results"][0]["questions"] for each in answers]
    texts = [f"client {at}" for at in range(50)]
    topics = make().predict_proba(texts)[:, 0].tolist()
    assert [each["topic"]["probabilities"]["billing"] for each in found] == topics
    mentions = multi(hashed_engine(len(byte_level()))).predict_proba(texts)[:, 0]
    assert [
        each["mentions"]["probabilities"]["billing"] for each in found
    ] == mentions.tolist()


def test_what_a_server_can_be_made_of():
    def says(sentence):
        return pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$")

    one_of_two = (
        "A server has one question, given as classifier=, or several, given as "
        "questions=: give one of the two."
    )
    with says(one_of_two):
        make_app()
    with says(one_of_two):
        make_app(make(), ServeSettings(), questions=[asked_question(make(), "topic")])
    for name in ("topic", ""):
        with says(f"Several of questions= have the name {name!r}: give each its own."):
            make_app(questions=[asked_question(make(), name)] * 2)
    selective = SelectiveClassifier.at(0.999, ["billing", "shipping"])
    with says(
        "selective= and sets= belong to the question of classifier=: give each of "
        "questions= its own."
    ):
        two_questions(selective=selective)
    with says(
        "selective= and sets= are for questions with one answer: for a "
        "ZeroShotMultiLabelClassifier, set its thresholds."
    ):
        make_app(multi(hashed_engine(len(byte_level()))), selective=selective)
    with says(
        "labels_column='which' gives each row its own labels, which is for a single "
        "question, without a name, that has one answer: leave it out."
    ):
        two_questions(labels_column="which")
