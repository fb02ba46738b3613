"""`classify predict --threshold`: the same rule wherever the rows go."""

import contextlib
import io
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from classify.cli import app
from classify.demo import TICKET_LABELS, fresh_csv, labelled_csv

TASK = ("--labels", ",".join(TICKET_LABELS), "--engine", "transformers")
THRESHOLD = 0.95
N_ROWS = 12


def run(*arguments, code=0, **options):
    result = CliRunner().invoke(app, [str(each) for each in arguments], **options)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    options = ("--label-column", "label", "--limit", 60, "-o", path, "--quiet")
    run("calibrate", labelled_csv(), *TASK, "--method", "temperature", *options)
    return path


@pytest.fixture
def fresh(tmp_path):
    pd.read_csv(fresh_csv())[["text"]][:N_ROWS].to_csv(
        tmp_path / "fresh.csv", index=False
    )
    with contextlib.chdir(tmp_path):
        yield "fresh.csv"


@pytest.fixture(params=["raw", "calibrated"])
def options(request, calibration):
    rule = ("--threshold", THRESHOLD)
    return rule if request.param == "raw" else (*rule, "--calibration", calibration)


def read(name, stdout):
    if name == "-":
        return pd.read_csv(io.StringIO(stdout), keep_default_na=False)
    if name.endswith(".parquet"):
        return pd.read_parquet(name).fillna({"label": ""})
    if name.endswith(".jsonl"):
        lines = pd.read_json(name, lines=True)
        return lines.fillna({"label": ""})
    separator = "\t" if name.endswith(".tsv") else ","
    return pd.read_csv(name, sep=separator, keep_default_na=False)


@pytest.mark.parametrize(
    "name", ["-", "out.csv", "out.tsv", "out.jsonl", "out.parquet"]
)
def test_rows_below_it_have_no_label(fresh, options, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    if name.endswith(".tsv"):
        run("predict", fresh, *TASK, *options, "-o", name)
        rows = pd.read_csv(name, sep="\t", keep_default_na=False)
    else:
        result = run("predict", fresh, *TASK, *options, "-o", name)
        rows = read(name, result.stdout)
    assert len(rows) == N_ROWS
    low = rows["probability"] < THRESHOLD
    assert 0 < low.sum() < N_ROWS
    assert (rows["label"] == "").tolist() == low.tolist()
    assert (rows["abstained"] == "low probability").tolist() == low.tolist()


def test_a_table_and_one_text(fresh, options):
    table = run("predict", fresh, *TASK, *options, "--table").stdout
    rows = read("-", run("predict", fresh, *TASK, *options, "-o", "-").stdout)
    assert table.count("low probability") == (rows["abstained"] != "").sum() > 0
    for row in rows.to_dict("records")[:4]:
        shown = run("predict", "--text", row["text"], *TASK, *options, "--json").stdout
        one = json.loads(shown)
        assert (one["label"] or "") == row["label"]
        assert (one["abstained"] or "") == row["abstained"]


def test_a_job_goes_on_with_the_same_threshold_only(fresh, options):
    run("predict", fresh, *TASK, *options, "-o", "out.csv", "--keep-job")
    first = read("out.csv", "")
    again = run("predict", fresh, *TASK, *options, "-o", "out.csv", "--keep-job")
    assert f"Resuming: {N_ROWS} of {N_ROWS} rows were finished" in again.stderr
    assert read("out.csv", "").equals(first)
    other = (*options, "--threshold", 0.5)
    refused = run("predict", fresh, *TASK, *other, "-o", "out.csv", code=2)
    assert "threshold" in refused.stderr
    assert "started with something else" in refused.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_on_a_cluster(fresh, calibration):
    pytest.importorskip("ray")
    rule = ("--threshold", THRESHOLD, "--calibration", calibration)
    run("predict", fresh, *TASK, *rule, "-o", "here.csv")
    there = ("--ray", "local", "--workers", 1, "-o", "there.csv")
    run("predict", fresh, *TASK, *rule, *there)
    shown = ["label", "abstained"]
    assert read("here.csv", "")[shown].equals(read("there.csv", "")[shown])
