"""Warnings of one label for nearly all texts, and of little label mass."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from classify import PromptTemplate, ZeroShotClassifier
from classify.cli import app
from classify.decision import SelectiveClassifier
from classify.demo import located, tickets_csv
from classify.engines import FakeEngine
from classify.errors import DataError
from classify.jobs import Classification, open_table, run_job, stream_rows
from classify.report import Evaluation
from classify.scoring.doubts import doubt_label_mass, doubt_one_label
from tests.posteriors import scores_of
from tests.tiny_tokenizers import byte_level

TRY = "Try options or answer_prefix (such as 'Category:'), chat=False, a larger model"
CALIBRATE = ", or calibrate: prior_matching needs no labelled texts."
TEXTS = [f"text {at}" for at in range(30)]


def one_label(n_most, n_texts=30, label="a"):
    return (
        f"{n_most} of {n_texts} texts get the label {label!r}. If that is not what you "
        f"expect, the prompt or the model favours it regardless of the text. {TRY}"
        f"{CALIBRATE}"
    )


def favouring(byte: str, gap=9.0):
    """Return an engine whose model likes one letter best, whatever the text."""

    def next_logprobs(token_ids):
        logits = np.zeros(len(byte_level()))
        [liked] = byte_level().backend.encode(byte, add_special_tokens=False)
        logits[liked] = gap
        return logits - np.logaddexp.reduce(logits)

    return FakeEngine.from_function(next_logprobs, len(byte_level()))


def make(engine, **options):
    return ZeroShotClassifier(
        ["a", "b"],
        engine=engine,
        tokenizer=byte_level(),
        prompt=PromptTemplate("{text}", chat=True),
        tolerance=0.0,
        **options,
    )


@pytest.mark.parametrize(
    ("mean", "share"),
    [
        (0.0, "nearly all"),
        (0.0099, "nearly all"),
        (0.01, "most"),
        (0.22, "more than half"),
    ],
)
def test_little_label_mass(mean, share, caplog):
    assert doubt_label_mass(mean)
    assert caplog.messages == [
        (
            f"The mean label mass is {mean:.2g}: the model puts {share} of its "
            "probability on answers other than the labels, and the labels share what "
            f"is left. {TRY}, or label words that it would use itself."
        )
    ]


def test_mass_of_half_and_more_is_no_reason(caplog):
    assert not doubt_label_mass(0.5)
    assert not doubt_label_mass(1.0)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("counts", "doubts"),
    [
        ({"a": 30}, True),
        ({"a": 29, "b": 1}, True),
        ({"a": 28, "b": 2}, False),
        ({"a": 29}, False),
        ({"b": 50, "a": 950}, True),
        ({}, False),
    ],
)
def test_one_label_for_nearly_all(counts, doubts, caplog):
    assert doubt_one_label(counts) == doubts
    n_texts = sum(counts.values())
    assert caplog.messages == [one_label(counts.get("a"), n_texts)] * doubts


def test_uneven_classes_are_no_reason(caplog):
    assert not doubt_one_label({"a": 100}, {"a": 90, "b": 10})
    assert doubt_one_label({"a": 100}, {"a": 89, "b": 11})
    assert doubt_one_label({"a": 100}, {"b": 100})
    assert caplog.messages == [
        f"100 of 100 texts get the label 'a', but only {n} have it: the prompt or the "
        f"model favours it regardless of the text. {TRY}{CALIBRATE}"
        for n in (89, 0)
    ]


@pytest.mark.parametrize(
    "ask",
    [
        lambda clf: clf.predict(TEXTS),
        lambda clf: clf.predict_proba(TEXTS),
        lambda clf: clf.predict_log_proba(TEXTS),
        lambda clf: clf.classify_frame(pd.DataFrame({"text": TEXTS})),
    ],
    ids=range(4),
)
def test_the_estimator_tells_once(ask, caplog):
    clf = make(favouring("a"))
    ask(clf)
    ask(clf)
    assert caplog.messages == [one_label(30)]


def test_few_texts_and_labels_that_are_withheld_tell_nothing(caplog):
    clf = make(favouring("a"))
    clf.predict(TEXTS[:29])
    withholding = SelectiveClassifier(0.5, min_label_mass=1.0)
    withholding.fit(scores_of(np.log([[0.9, 0.1]] * 20), ["a", "b"]), ["a"] * 20)
    frame = pd.DataFrame({"text": TEXTS})
    assert clf.classify_frame(frame, selective=withholding)["label"].isna().all()
    assert not caplog.messages


def test_jobs_tell_when_they_are_complete(tmp_path, caplog):
    job = Classification(classifier=make(favouring("b")))
    frame = pd.DataFrame({"text": TEXTS})
    run_job(job, open_table(frame), tmp_path / "out.csv", part_rows=7)
    stream_rows(job, open_table(frame), lambda chunk: None, part_rows=7)
    assert caplog.messages == [one_label(30, label="b")] * 2


def test_an_evaluation_compares_with_the_truth(caplog):
    log_proba = np.log([[0.9, 0.1]] * 40)
    for n_true in (38, 20):
        y = ["a"] * n_true + ["b"] * (40 - n_true)
        Evaluation.of([*TEXTS, *TEXTS[:10]], y, scores_of(log_proba, ["a", "b"]))
    assert caplog.messages == [
        (
            "40 of 40 texts get the label 'a', but only 20 have it: the prompt or the "
            f"model favours it regardless of the text. {TRY}{CALIBRATE}"
        )
    ]


def test_commands_say_it_with_their_options(tmp_path):
    source = tmp_path / "same.csv"
    source.write_text("text\n" + "My parcel has not arrived.\n" * 40)
    arguments = ["predict", str(source), "--labels", "billing,shipping"]
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out.csv")])
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    assert (
        "Warning: 40 of 40 texts get the label 'shipping'. If that is not what you "
        "expect, the prompt or the model favours it regardless of the text. Try "
        "--options or --answer-prefix (such as 'Category:'), --no-chat, a larger "
        f"model{CALIBRATE}"
    ) in said


def test_the_demo_model_gives_no_reason(caplog):
    tickets = pd.read_csv(tickets_csv())["text"]
    ZeroShotClassifier(["billing", "shipping", "refund"]).predict(tickets)
    assert not caplog.messages


def test_what_the_model_would_rather_say_is_that_of_full_passes():
    labels = ["quux", "zebra"]
    clf = ZeroShotClassifier(labels, engine="transformers", dtype="float32")
    rows = [{"text": text} for text in ("Where is my parcel?", "I was charged twice.")]
    scorer = clf.scorer()
    model = AutoModelForCausalLM.from_pretrained(located("demo")).float().eval()
    mean = np.zeros(model.config.vocab_size)
    for prompt in scorer.encode(rows, None):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt.token_ids])).logits[0, -1]
        mean += torch.softmax(logits.double(), dim=-1).numpy() / len(rows)
    best = np.argsort(-mean)[:5]
    found = scorer.likeliest_tokens([*rows, DataError("Row 3 has no text.")])
    pieces = scorer.model.load_tokenizer().pieces(best.tolist())
    assert [piece for piece, _ in found] == list(pieces)
    np.testing.assert_allclose([p for _, p in found], mean[best], rtol=1e-4)


LIKELIEST = (
    r"The model's answers are most likely to begin with "
    r"'[^']+' \(\d\.\d\d\)(, '[^']+' \(\d\.\d\d\)){4}\. If these are other words for "
    r"the labels, add them as label words; if they introduce an answer, put that text "
    r"into --answer-prefix\."
)


@pytest.mark.parametrize("labels", ["xylophone,zebra", "billing,shipping"])
@pytest.mark.parametrize("mode", ["a file", "a table", "one text", "labelled"])
def test_commands_show_what_the_model_would_rather_say(labels, mode, tmp_path):
    source = tmp_path / "rows.csv"
    label = labels.partition(",")[0]
    source.write_text(f"text,label\nWhere is my parcel?,{label}\n")
    modes = {
        "a file": [source, "-o", tmp_path / "out.csv"],
        "a table": [source, "--table"],
        "one text": ["--text", "Where is my parcel?"],
        "labelled": [source],
    }
    command = "evaluate" if mode == "labelled" else "predict"
    arguments = [command, *map(str, modes[mode]), "--labels", labels]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    assert bool(re.search(LIKELIEST, said)) == (labels == "xylophone,zebra"), said


def test_it_is_said_which_question_the_model_answers_otherwise(tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text("questions: {odd: {labels: [xylophone, zebra]}}\n")
    arguments = ["predict", "--text", "Where is my parcel?", "--task", str(task)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    hint = "The model's answers to question 'odd' are most likely to begin with "
    listed = said.partition(hint)[2].partition(". If these are")[0]
    assert listed
    assert "(0.00)" not in listed
