"""Every pair of options of a command, given together: it works, or is refused.

Many options are given at once, so that few runs hold every pair that goes together;
each pair that does not is run on its own, and is refused before a model is loaded.
"""

import csv
import io
from itertools import combinations

import pytest
from typer.testing import CliRunner

from classify.cli import app
from classify.cli.groups import JobOptions, OneText, Reading
from classify.cli.options import options_of
from tests.option_values import LABELS, LEFT_OUT, covering, parameters_of, prepared


def names_of(*groups):
    """Return the names of the options of groups."""
    return {each.name for group in groups for each in options_of(group)}


MODES = {
    "a file": ["-o", "OUT"],
    "a pipe": [],
    "a table": ["--table"],
    "one text": ["--text", "Where is my parcel?"],
}
# What has no effect there, and is refused.
OF_ONE_TEXT = names_of(OneText)
ROWS_ONLY = names_of(Reading, JobOptions) - LEFT_OUT
ROWS_ONLY |= {"labels_column", "text_column"}
REFUSED = {
    "a file": OF_ONE_TEXT | {"as_table"},
    "a pipe": OF_ONE_TEXT | {"restart", "keep_job", "overwrite"},
    "a table": OF_ONE_TEXT
    | {"output", "restart", "keep_job", "overwrite", "output_format"}
    | {"probabilities", "bounds", "reasoning", "sets"},
    "one text": ROWS_ONLY,
}
# No effect with the demo model on this machine's engine.
NOWHERE = {"revision", "speculation"}
# In one run: most of those that go together.
MAX_OPTIONS = 50
# Refused for what their values need, in `test_cli_review.py` for themselves.
GIVEN_WITH_OTHERS = {"as_table", "output", "review", "review_random", "review_rows"}
# The mode itself.
GIVEN = {"output", "as_table", "text"}
EXAMPLES = ("examples", "n_examples", "max_example_tokens", "example_choice")
EXAMPLES += ("example_seed", "example_text_column", "example_label_column")
CONFLICTS = {
    frozenset(pair)
    for pair in (
        ("answer", "chain_seed"),
        ("answer", "chain_temperature"),
        ("answer", "max_reasoning_tokens"),
        ("answer", "n_chains"),
        ("answer", "reasoning"),
        ("n_orders", "chain_seed"),
        ("n_orders", "chain_temperature"),
        ("n_orders", "max_reasoning_tokens"),
        ("n_orders", "n_chains"),
        ("n_orders", "reasoning"),
        ("labels", "labels_file"),
        ("chat", "template_arguments"),
        ("escape", "labels_column"),
        ("label_column", "no_label_column"),
        ("method", "prior"),
        ("method", "unlabeled"),
        ("no_label_column", "method"),
        ("no_label_column", "sets"),
        ("no_label_column", "target_risk"),
        *(("shortlist", name) for name in EXAMPLES),
        ("shortlist", "chain_seed"),
        ("shortlist", "chain_temperature"),
        ("shortlist", "escape"),
        ("shortlist", "max_reasoning_tokens"),
        ("shortlist", "n_chains"),
        ("shortlist", "reasoning"),
        ("shortlist", "strategy"),
        ("shortlist", "system"),  # which lists the labels
        ("strategy", "chain_seed"),
        ("strategy", "chain_temperature"),
        ("strategy", "max_reasoning_tokens"),
        ("strategy", "n_chains"),
        ("strategy", "reasoning"),
        ("strategy", "tolerance"),
        ("target_risk", "threshold"),
        ("template", "text_position"),
    )
}
# A calibration of other labels cannot be forced.
CONFLICTS_OF_CALIBRATION = {
    frozenset(("escape", name))
    for name in ("calibration", "force", "sets", "target_risk")
}
# The temperature of n candidates is fitted to labels.
CONFLICTS_OF_CANDIDATES = {
    frozenset(("labels_column", name))
    for name in ("no_label_column", "prior", "unlabeled")
}
# What an option cannot do without; a calibration is used with other prompts too.
NEEDS = {
    "calibration": ["force"],
    "force": ["calibration"],
    "sets": ["calibration", "force"],
    "target_risk": ["calibration", "force"],
}


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("options"))


def run(*arguments):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert "unexpected" not in result.stderr, result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def typed(names, values, needs=NEEDS):
    """Return the arguments for some options, with what they need."""
    wanted = dict.fromkeys(names)
    for name in names:
        wanted.update(dict.fromkeys(needs.get(name, ())))
    return [argument for name in wanted for argument in values[name]]


def labelled(names):
    """Return what gives a command labels, if none of its options does."""
    return [] if {"labels", "labels_file", "task"} & {*names} else ["--labels", LABELS]


# -------------------------------------------------------------------- classify predict

PREDICT = parameters_of("predict")


def test_every_option_has_a_value(values):
    for command in ("predict", "evaluate", "calibrate", "tune", "labels", "doctor"):
        assert set(parameters_of(command)) <= set(values), command


@pytest.mark.parametrize("mode", MODES)
def test_what_has_no_effect_is_refused(mode, values):
    source = [] if mode == "one text" else [values["output"][1].parent / "rows.csv"]
    out = values["output"][1]
    for name in sorted((REFUSED[mode] | NOWHERE) - GIVEN_WITH_OTHERS):
        where = [str(out) if each == "OUT" else each for each in MODES[mode]]
        engine = ["--engine", "transformers", "--labels", LABELS]
        result = run("predict", *source, *where, *engine, *typed([name], values))
        assert result.exit_code == 2, name
        assert result.stderr.startswith(f"Error: {PREDICT[name]} is for "), name
        assert result.stderr.endswith(f"drop {PREDICT[name]}.\n"), name


def test_a_table_is_shown_or_written(values):
    source, out = values["output"][1].parent / "rows.csv", values["output"][1]
    result = run("predict", source, "--labels", LABELS, "--table", "-o", out)
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: --table shows the rows and --output writes them: drop one.\n",
    )


@pytest.mark.parametrize("mode", MODES)
def test_every_pair_of_predict(mode, values, tmp_path):
    source = [] if mode == "one text" else [values["output"][1].parent / "rows.csv"]
    names = sorted(set(PREDICT) - REFUSED[mode] - NOWHERE - GIVEN)
    assert len(names) > 20
    for at, chosen in enumerate(
        covering(
            names,
            CONFLICTS | CONFLICTS_OF_CALIBRATION,
            size=MAX_OPTIONS,
            alone=("dry_run",),
        )
    ):
        out = tmp_path / f"{at}.csv"
        where = [str(out) if each == "OUT" else each for each in MODES[mode]]
        arguments = [*source, *where, *labelled(chosen), *typed(chosen, values)]
        result = run("predict", *arguments)
        assert result.exit_code == 0, (arguments, result.output)
        if mode == "one text":
            assert "Where is my parcel?" in result.stdout
        elif "dry_run" in chosen:
            assert result.stdout.startswith("rows  ")
            assert not out.exists()
        elif mode != "a table":
            text = out.read_text() if mode == "a file" else result.stdout
            rows = list(csv.DictReader(io.StringIO(text)))
            n_rows = 8 if "limit" in chosen else 12
            n_rows = min(n_rows, 5) if "sample" in chosen else n_rows
            assert len(rows) == (n_rows // 2 if "shard" in chosen else n_rows), chosen


@pytest.mark.parametrize("mode", ["a file", "a pipe"])
def test_pairs_of_predict_that_do_not_go_together(mode, values):
    source, out = values["output"][1].parent / "rows.csv", values["output"][1]
    conflicts = CONFLICTS | CONFLICTS_OF_CALIBRATION
    pairs = [pair for pair in conflicts if pair <= set(PREDICT)]
    assert len(pairs) == 40
    for pair in pairs:
        where = [str(out) if each == "OUT" else each for each in MODES[mode]]
        arguments = [*where, *labelled(pair), *typed(sorted(pair), values)]
        result = run("predict", source, *arguments)
        assert (result.exit_code, result.stdout) == (2, ""), arguments
        assert result.stderr.count("\n") == 1, result.stderr


# ------------------------------------------------------------------- the other commands


@pytest.mark.parametrize("calibrated", [False, True], ids=["raw", "calibrated"])
def test_every_pair_of_evaluate(calibrated, values):
    source = values["output"][1].parent / "rows.csv"
    without = NOWHERE if calibrated else {*NOWHERE, *NEEDS}
    names = sorted(set(parameters_of("evaluate")) - without)
    for chosen in covering(
        names, CONFLICTS | CONFLICTS_OF_CALIBRATION, size=MAX_OPTIONS
    ):
        needs = NEEDS | {"overwrite": ["report"]}
        arguments = [*labelled(chosen), *typed(chosen, values, needs)]
        result = run("evaluate", source, *arguments)
        assert result.exit_code == 0, (arguments, result.output)
        assert "Log loss (nats)" in result.stdout


def test_every_pair_of_calibrate(values, tmp_path):
    source = values["output"][1].parent / "rows.csv"
    # Of 12 rows, or 8, enough are left to fit to and to measure on.
    values = values | {"sample": ["--sample", "10"]}
    names = sorted(set(parameters_of("calibrate")) - NOWHERE - {"output", "force"})
    needs = {"min_label_mass": ["target_risk"]}
    refused = CONFLICTS | CONFLICTS_OF_CANDIDATES
    conflicts = refused | {frozenset(("no_label_column", "min_label_mass"))}
    for at, chosen in enumerate(covering(names, conflicts, size=MAX_OPTIONS)):
        out = tmp_path / f"{at}.json"
        arguments = [*labelled(chosen), *typed(chosen, values, needs)]
        result = run("calibrate", source, "--force", "-o", out, *arguments)
        assert result.exit_code == 0, (arguments, result.output)
        assert out.exists()
    for pair in (pair for pair in refused if pair <= set(names)):
        arguments = [*labelled(pair), *typed(sorted(pair), values, needs)]
        result = run("calibrate", source, "-o", tmp_path / "c.json", *arguments)
        assert result.exit_code == 2, arguments


def test_every_pair_of_labels(values):
    names = sorted(set(parameters_of("labels")) - NOWHERE)
    for chosen in covering(names, CONFLICTS, size=8):
        result = run("labels", *labelled(chosen), *typed(chosen, values))
        assert result.exit_code == 0, (chosen, result.output)
        assert "technical problem" in result.stdout


def test_a_covering_covers():
    names, conflicts = list("abcdefgh"), {frozenset("ab"), frozenset("cd")}
    sets = list(covering(names, conflicts, size=4, alone=("h",)))
    together = {frozenset(p) for each in sets for p in combinations(each, 2)}
    assert conflicts & together == set()
    assert len(together) == 28 - 2
    seen = {
        frozenset(pair)
        for each in sets
        if "h" not in each
        for pair in combinations(each, 2)
    }
    assert len(seen) == 21 - 2
