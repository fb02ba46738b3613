"""`classify tune` with the demo model: from texts to the best prompt in a task file."""

import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from classify import ZeroShotClassifier, tune_prompt
from classify.cli import app
from classify.cli.tune_job import conclusion
from classify.config import Task, task_yaml
from classify.demo import labelled_csv, located, tickets_yaml

LABELS = "billing,shipping,refund"


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["tune", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("tune") / "texts.csv"
    pd.read_csv(labelled_csv()).head(12).to_csv(path, index=False)
    return path


def test_the_best_prompt_is_written_to_a_task_file(source, tmp_path):
    output = tmp_path / "tuned.yaml"
    result = run(source, "--task", tickets_yaml(), "-o", output, "--n-texts", "8")
    task = Task.from_yaml(tickets_yaml())
    texts = pd.read_csv(source).text.tolist()
    tuning = tune_prompt(task.classifier(), texts, n_texts=8)
    tuned = Task.from_yaml(output)
    assert tuned.prompt == tuning.best
    assert (tuned.labels, tuned.model) == (task.labels, task.model)
    names = [line[:24].strip() for line in result.stdout.splitlines()[2:]]
    assert names == [each.name for each in tuning.prompts]
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert f"Written to {output}: use it with --task {output}.\n" in result.stderr


def test_labels_are_used_where_there_are_any(source):
    result = run(source, "--task", tickets_yaml(), "--label-column", "label")
    header = result.stdout.splitlines()[0].split()
    assert " ".join(header) == "log loss accuracy information mass tokens"
    assert "On 12 labelled texts, " in result.stderr
    assert "Write it to a task file with --output FILE.\n" in result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_only_its_own_file_is_replaced(source, tmp_path):
    output = tmp_path / "task.yaml"
    output.write_text("labels: [a, b]\n")
    result = run(source, "--labels", LABELS, "-o", output, code=2)
    assert result.stderr == (
        f"Error: '{output}' exists and was not written by classify tune. Give "
        "another name, or --overwrite to replace it.\n"
    )
    output.write_text("# Written by classify tune.\n")
    shown = run(source, "--labels", LABELS, "-o", output, "--n-texts", "2").stderr
    assert f"Written to {output}, in place of an earlier one" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--labels", LABELS, "--overwrite"],
            "Error: --overwrite is for --output: give it, or drop --overwrite.\n",
        ),
        (
            [],
            (
                "Error: There are no labels: give --labels, --labels-file, or a --task "
                "that has them.\n"
            ),
        ),
    ],
)
def test_misuse(source, arguments, message):
    assert run(source, *arguments, code=2).stderr == message


def test_a_calibration_of_another_prompt_is_left_out(source, tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text(f"labels: [{LABELS}]\ncalibration: old.json\n")
    output = tmp_path / "tuned.yaml"
    result = run(source, "--task", task, "-o", output, "--n-texts", "4")
    assert Task.from_yaml(output).calibration is None
    assert "The calibration 'old.json' was fitted with the previous prompt" in (
        result.stderr
    )


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["C"], include_characters="\n\t"),
    max_size=20,
)


@given(texts, texts, st.sampled_from([True, "auto"]), st.floats(0, 0.99))
def test_a_task_is_read_back_as_it_was(
    tmp_path_factory, words, system, chat, tolerance
):
    settings = {
        "labels": {"yes": None, "1": "first", "no": {"words": ["no", "nein"]}},
        "prompt": {
            "template": words.replace("{", "").replace("}", "") + "{text}",
            "system": system.replace("{", "").replace("}", ""),
            "examples": [{"text": "e\n", "label": "yes"}],
            "chat": chat,
            "template_arguments": {"thinking": False},
        },
        "verbalizer": {"end": "always"},
        "tolerance": tolerance,
        "model": "some/model",
        "engine_options": {"max_model_len": 64},
        "text_column": "body",
    }
    task = Task.parse(settings)
    path = tmp_path_factory.getbasetemp() / "task.yaml"
    path.write_text(task_yaml(task), encoding="utf-8", newline="")
    assert Task.from_yaml(path) == task


def test_candidates_of_each_row_are_refused(source, tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text(f"labels: [{LABELS}]\nlabels_column: which\n")
    assert run(source, "--task", task, code=2).stderr == (
        "Error: The task has candidate labels of each row (labels_column: which), but "
        "here every row may have any label: leave it out.\n"
    )


def test_an_ensemble_of_the_best_is_written(source, tmp_path):
    output = tmp_path / "ensemble.yaml"
    command = (source, "--labels", LABELS, "--n-texts", "4", "-o", output)
    shown = run(*command, "--ensemble", "2").stderr
    texts = pd.read_csv(source).text.tolist()
    tuning = tune_prompt(ZeroShotClassifier(LABELS.split(",")), texts, n_texts=4)
    first, second = tuning.prompts[:2]
    assert f"The ensemble is {first.name!r}, {second.name!r}." in shown
    assert Task.from_yaml(output).prompt == tuning.ensemble(2)


def predict(*arguments, code=0):
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stderr


def test_predict_chooses_the_prompt_once(source, tmp_path):
    output = tmp_path / "out.csv"
    command = (source, "--labels", LABELS, "--limit", 4, "-o", output)
    command += ("--template", "auto")
    clf = ZeroShotClassifier(LABELS.split(","))
    texts = pd.read_csv(source).text.tolist()[:4]
    tuning = tune_prompt(clf, texts)
    best = tuning.prompts[0]
    assert conclusion(tuning) in " ".join(predict(*command, "--keep-job").split())
    proba = clf.set_params(prompt=best.prompt).predict_proba(texts)
    np.testing.assert_allclose(
        pd.read_csv(output).probability, proba.max(axis=1), atol=1e-4
    )
    again = predict(*command, "--keep-job")
    assert f"The prompt is {best.name!r}, as when the job began." in again
    assert "best prompt" not in again


def test_a_prompt_is_found_again_next_to_others_that_the_model_refuses(
    source, tmp_path
):
    model = shutil.copytree(located("demo"), tmp_path / "model")
    chat = model / "chat_template.jinja"
    chat.write_text(chat.read_text().replace("['system', ", "["))
    command = (source, "--labels", LABELS, "--limit", 2, "-o", tmp_path / "out.csv")
    command += (
        "--model",
        model,
        "--template",
        "auto",
        "--no-chat",
        "--system",
        "Sort.",
    )
    assert "is the best prompt" in predict(*command, "--keep-job")
    assert "as when the job began" in predict(*command, "--keep-job")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--ray", "auto", "-o", "out.csv"],
            (
                "--template auto cannot be combined with --ray: choose a "
                "prompt with classify tune first."
            ),
        ),
        (
            ["--text", "Where is it?"],
            (
                "No prompt has been chosen yet for --template auto: call fit, run "
                "classify predict on a file, or choose one with classify tune."
            ),
        ),
    ],
)
def test_where_no_prompt_can_be_chosen(source, options, message):
    files = [] if "--text" in options else [source]
    shown = predict(*files, "--labels", LABELS, "--template", "auto", *options, code=2)
    assert message in " ".join(shown.split())
