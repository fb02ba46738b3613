"""A temperature that depends on the number of candidates: T(n) = a + b ln n."""

import csv
import io
import json
import re

import numpy as np
import pytest
from scipy.optimize import minimize
from typer.testing import CliRunner

from classify import LabelCalibrator, SelectiveClassifier, ZeroShotClassifier
from classify.calibration.by_count import CountTemperature
from classify.cli import app
from classify.decision.posteriors import Posteriors
from classify.errors import ConfigError, InputError, LabelError
from tests.labelled_tickets import LABELS, draw

NAMES = LABELS.split(",")


def scores_of(counts, *, seed=0, heat=lambda n: 0.5 + 0.8 * np.log(n)):
    """Log-probabilities of so many candidates each, too sure by a known temperature."""
    rng = np.random.default_rng(seed)
    values = np.full((len(counts), max(counts)), -np.inf)
    codes = []
    for row, n in enumerate(counts):
        places = np.sort(rng.permutation(max(counts))[:n])
        honest = rng.normal(0, 2, n)
        proba = np.exp(honest) / np.exp(honest).sum()
        codes.append(int(rng.choice(places, p=proba)))
        values[row, places] = honest * heat(n)
    return values - np.logaddexp.reduce(values, axis=1)[:, None], np.array(codes)


def fitted(values, codes, **options):
    calibrator = LabelCalibrator(
        "temperature_by_count", classes=range(values.shape[1]), **options
    )
    return calibrator.fit(values, codes)


COUNTS = [2, 3, 5, 9, 14] * 80


@pytest.mark.parametrize("l2", [0.0, 1.0, 30.0])
def test_the_fit_is_that_of_an_independent_optimiser(l2):
    values, codes = scores_of(COUNTS)
    middle = np.mean(np.log(COUNTS))

    def loss(free):
        log_t, slope = free
        total = l2 / 2 * (log_t**2 + slope**2)
        for row, n, code in zip(values, COUNTS, codes, strict=True):
            heat = np.exp(log_t) + slope * (np.log(n) - middle)
            possible = row[np.isfinite(row)] / heat
            total += np.log(np.exp(possible).sum()) - row[code] / heat
        return total

    found = minimize(loss, [0.1, 0.1], method="Nelder-Mead", options={"xatol": 1e-7})
    slope = found.x[1]
    own = fitted(values, codes, l2_log_scale=l2)._calibration.map
    assert own.slope == pytest.approx(slope, abs=1e-4)
    assert own.intercept == pytest.approx(np.exp(found.x[0]) - slope * middle, abs=1e-4)


def test_the_temperature_that_made_the_scores_is_found():
    values, codes = scores_of([2, 4, 8, 16] * 2000)
    own = fitted(values, codes)._calibration.map
    assert own.intercept == pytest.approx(0.5, abs=0.15)
    assert own.slope == pytest.approx(0.8, abs=0.1)


def test_with_equally_many_labels_it_is_a_temperature():
    values, codes = scores_of([4] * 100)
    own = fitted(values, codes)
    plain = LabelCalibrator("temperature", classes=range(4)).fit(values, codes)
    np.testing.assert_allclose(
        own.transform(values), plain.transform(values), atol=1e-6
    )
    assert own._calibration.map.slope == 0.0


def test_every_candidate_is_scaled_by_its_rows_number(tmp_path):
    values, codes = scores_of(COUNTS)
    own = fitted(values, codes)
    own.save(tmp_path / "c.json")
    loaded = LabelCalibrator.load(tmp_path / "c.json")
    parameters = json.loads((tmp_path / "c.json").read_text())["parameters"]
    for row, n in list(zip(values, COUNTS, strict=True))[:5]:
        heat = parameters["intercept"] + parameters["slope"] * np.log(n)
        raised = np.exp(row / heat)
        expected = raised / raised.sum()
        [found] = loaded.predict_proba([row])
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert (found > 0).sum() == n
    assert re.fullmatch(
        r"temperature_by_count was fitted to 400 labels\. The temperature is [\d.]+ "
        r"\+ [\d.]+ ln n, where n, the number of a text's candidates, was 2 to 14\.",
        own.explanation_,
    )


def test_far_from_what_was_seen_the_temperature_stays_positive():
    falling = CountTemperature(intercept=1.0, slope=-0.5)
    [row] = falling.transform(np.log(np.full((1, 100), 0.01)))
    np.testing.assert_allclose(row, np.log(0.01))


def test_columns_without_names_are_those_of_the_fit():
    values, codes = scores_of([3] * 40)
    own = fitted(values, codes)
    assert own.predict(values).tolist() == values.argmax(axis=1).tolist()
    message = (
        "label_logprobs has 2 columns, but there are 3 classes: 0, 1, 2. Pass one "
        "column for each, in this order."
    )
    with pytest.raises(InputError, match=rf"^{re.escape(message)}$"):
        own.predict(np.log([[0.5, 0.5]]))


def posteriors(log_proba, classes):
    mass = np.ones(len(log_proba))
    return Posteriors(np.asarray(log_proba), np.array(classes), mass)


def test_a_threshold_for_any_classes():
    rule = SelectiveClassifier(0.3, classes="any")
    some = posteriors(np.log([[0.9, 0.1], [0.2, 0.8]] * 50), ["a", "b"])
    rule.fit(some, ["a", "b"] * 50)
    again = SelectiveClassifier.from_dict(json.loads(json.dumps(rule.to_dict())))
    others = posteriors(np.log([[0.2, 0.2, 0.6], [0.05, 0.9, 0.05]]), ["x", "y", "z"])
    for each in (rule, again, SelectiveClassifier.at(rule.threshold_, "any")):
        assert each.predict(others).tolist() == (
            ["z", "y"] if rule.threshold_ <= 0.6 else [None, "y"]
        )
    message = "With classes='any', X must name its classes: give LabelLogprobs."
    with pytest.raises(InputError, match=rf"^{re.escape(message)}$"):
        rule.decide([[0.5, 0.5]])
    message = (
        "confidence='entropy' can only compare texts with the same number of classes, "
        "which classes='any' does not guarantee: use 'max_proba' or 'margin'."
    )
    with pytest.raises(ConfigError, match=rf"^{re.escape(message)}$"):
        SelectiveClassifier(classes="any", confidence="entropy").fit(some, ["a"] * 100)
    strict = SelectiveClassifier.at(0.5, ["a", "b"])
    with pytest.raises(LabelError, match=r"^The classes of X are 'x', 'y', 'z', but "):
        strict.decide(others)


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Tickets with two to five candidates each, in a file; and a calibration."""
    folder = tmp_path_factory.mktemp("candidates")
    rng = np.random.default_rng(1)
    path = folder / "labelled.csv"
    lines = ["text,label,allowed"]
    for text, label in draw(80, seed=5):
        others = rng.permutation([name for name in NAMES if name != label])
        allowed = sorted([label, *others[: rng.integers(1, len(NAMES))]])
        lines.append(f'"{text}",{label},{"|".join(allowed)}')
    lines.append(f"Not a candidate.,{NAMES[0]},{NAMES[1]}|{NAMES[2]}")
    lines.append(f"Only one.,{NAMES[0]},{NAMES[0]}")
    path.write_text("\n".join(lines) + "\n")
    options = ("--labels-column", "allowed", "--target-risk", 0.4)
    found = run("calibrate", path, *options, "-o", folder / "c.json")
    return path, folder / "c.json", found


def test_candidates_are_calibrated_from_the_command_line(table):
    path, calibration, found = table
    assert "temperature_by_count was fitted to" in " ".join(found.stdout.split())
    reason = f"its label {NAMES[0]!r} is not one of its candidates."
    assert reason in " ".join(found.stderr.split())
    saved = json.loads(calibration.read_text())
    assert saved["calibration"]["fingerprint"]["labels"] == "each row's own"
    output = path.with_name("out.csv")
    options = ("--labels-column", "allowed", "--calibration", calibration)
    run("predict", path, *options, "--target-risk", 0.4, "-o", output)
    own = saved["calibration"]["parameters"]
    # The same figures, one text at a time and by hand.
    clf = ZeroShotClassifier()
    for row in rows_of(output)[:6]:
        allowed = row["allowed"].split("|")
        [raw] = clf.label_logprobs([row["text"]], labels=[allowed]).log_proba
        heat = own["intercept"] + own["slope"] * np.log(len(allowed))
        raised = np.exp(raw / heat)
        assert float(row["probability"]) == pytest.approx(
            raised.max() / raised.sum(), abs=1e-6
        )
        sure = float(row["probability"]) >= saved["threshold"]["threshold"]
        assert bool(row["label"]) == sure


def test_candidates_are_evaluated(table):
    path, calibration, _ = table
    options = ("--labels-column", "allowed", "--calibration", calibration)
    report = path.with_name("report")
    found = run("evaluate", path, *options, "--threshold", 0.5, "--report", report)
    assert re.search(r"^Log loss \(nats\) .*\[.*\].*\[.*\]", found.stdout, re.MULTILINE)
    assert "80 texts" in found.stdout
    content = json.loads((report / "report.json").read_text())
    assert content["facts"]["Labels"] == "each row's own"


def test_a_calibration_of_labels_does_not_hold_for_any(table, tmp_path):
    path, calibration, _ = table
    plain = tmp_path / "plain.json"
    run("calibrate", path, "--labels", LABELS, "-o", plain)
    options = ("--labels-column", "allowed", "--calibration", plain)
    assert run("predict", path, *options, code=2).stderr == (
        "Error: A calibration belongs to labels: give --labels, --labels-file, or a "
        "--task that has them.\n"
    )
    again = run("calibrate", path, "--labels", LABELS, "-o", calibration, code=2)
    assert "contains another calibration: method temperature_by_count" in again.stderr


def test_declared_labels_with_candidates(table, tmp_path):
    path, _, _ = table
    options = ("--labels", LABELS, "--labels-column", "allowed", "--sets", 0.8)
    found = run("calibrate", path, *options, "-o", tmp_path / "c.json")
    assert "temperature_by_count was fitted to" in " ".join(found.stdout.split())
    assert run(
        "calibrate", path, *options[2:], "-o", tmp_path / "d.json", code=2
    ).stderr == (
        "Error: --sets needs to know all labels in advance: give --labels as well as "
        "--labels-column, or leave it out.\n"
    )
