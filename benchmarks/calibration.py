"""What calibration does to a small language model, on public test sets.

    python benchmarks/calibration.py --cache FOLDER

scores the sets once (minutes on a CPU; one thread: OMP_NUM_THREADS=1) and prints
Markdown tables. Of each set 1,000 texts are for calibration and the rest for testing,
split at random, and none was in the model's training. Without labels, a method sees the
texts for calibration; with n labels, it sees all of them and the labels of n, drawn
anew in every draw. Intervals are 95 % bootstrap intervals over test texts, percentile.
"""

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from calibration_scores import SETS, ScoredSet, scored_set

from classify.calibration import CalibrationWarning, LabelCalibrator

ROOT = Path(__file__).parents[1]

UNLABELLED = ("prior_matching", "batch", "content_free", "domain", "pmi")
LABELLED = ("temperature", "affine", "auto")
COUNTS = (10, 50, 200, 1000)
METRICS = ("accuracy", "log loss", "ECE")

_N_CALIBRATION = 1000
_N_BINS = 15
_N_RESAMPLES = 500

FloatArray = npt.NDArray[np.float64]


class Split(NamedTuple):
    """Rows of a scored set."""

    calibration: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """Metrics of one method on one set: the value, and one for each resample.

    Attributes
    ----------
    values : ndarray of float64, shape (3,)
        In the order of `METRICS`, mean over draws.
    resampled : ndarray of float64, shape (n_resamples, 3)
    """

    values: FloatArray
    resampled: FloatArray


def main() -> None:
    """Score, calibrate, print."""
    options = _arguments()
    warnings.simplefilter("ignore", CalibrationWarning)
    outcomes = {
        name: _outcomes(
            scored_set(name, options.data, options.model, options.cache), options.draws
        )
        for name in options.sets
    }
    print(_per_set(outcomes, "accuracy", ["none", *UNLABELLED]), "\n")
    print(_means(outcomes), "\n")
    for metric in METRICS:
        print(_per_set(outcomes, metric, ["none", "prior_matching", "auto, 200"]), "\n")
    print(_against_raw(outcomes, "auto, 200"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", type=Path, default=ROOT / "../shared/models/eval-lm")
    add("--data", type=Path, default=ROOT / "../shared/data")
    add("--cache", type=Path, required=True, help="folder for the scores")
    add("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME")
    add("--draws", type=int, default=5, help="draws of labelled texts")
    return parser.parse_args()


def _outcomes(scored: ScoredSet, n_draws: int) -> dict[str, Outcome]:
    order = np.random.default_rng(0).permutation(len(scored.codes))
    split = Split(order[:_N_CALIBRATION], order[_N_CALIBRATION:])
    draw = np.random.default_rng(0)
    n = len(split.test)
    counts = draw.multinomial(n, np.full(n, 1 / n), size=_N_RESAMPLES)
    return {
        name: _outcome(scored, split.test, calibrators, counts.astype(np.float64))
        for name, calibrators in _fitted(scored, split.calibration, n_draws)
    }


def _fitted(
    scored: ScoredSet, rows: npt.NDArray[np.int64], n_draws: int
) -> Iterator[tuple[str, list[LabelCalibrator]]]:
    """Yield each method's name and its calibrators, one for each draw."""
    for method in ("none", *UNLABELLED):
        calibrator = LabelCalibrator(method, classes=scored.classes)
        probes = getattr(scored, method, None)
        yield method, [calibrator.fit(scored.values[rows], probes=probes)]
    true = scored.classes[scored.codes]
    for n_labels in COUNTS:
        several = range(1 if n_labels >= len(rows) else n_draws)
        drawn = [np.random.default_rng(seed).permutation(rows) for seed in several]
        for method in LABELLED:
            yield (
                f"{method}, {n_labels}",
                [
                    LabelCalibrator(method, classes=scored.classes).fit(
                        scored.values[order[:n_labels]],
                        true[order[:n_labels]],
                        X_unlabeled=scored.values[order[n_labels:]]
                        if n_labels < len(order)
                        else None,
                    )
                    for order in drawn
                ],
            )


def _outcome(
    scored: ScoredSet,
    rows: npt.NDArray[np.int64],
    calibrators: list[LabelCalibrator],
    counts: FloatArray,
) -> Outcome:
    each = [
        _metrics(calibrator.transform(scored.values[rows]), scored.codes[rows], counts)
        for calibrator in calibrators
    ]
    mean = np.mean(each, axis=0)
    return Outcome(mean[0], mean[1:])


def _metrics(
    log_proba: FloatArray, codes: npt.NDArray[np.int64], counts: FloatArray
) -> FloatArray:
    """Return metrics of all texts, then of each resample, (1 + n_resamples, 3)."""
    n = len(codes)
    weights = np.vstack([np.ones(n), counts]) / n
    best = log_proba.argmax(axis=1)
    hits = (best == codes).astype(np.float64)
    losses = -log_proba[np.arange(n), codes]
    confidence = np.exp(log_proba[np.arange(n), best])
    bins = np.ceil(confidence * _N_BINS).clip(1, _N_BINS).astype(np.int64) - 1
    gaps = (hits - confidence)[:, None] * np.eye(_N_BINS)[bins]
    return np.column_stack(
        [weights @ hits, weights @ losses, np.abs(weights @ gaps).sum(axis=1)]
    )


def _per_set(
    outcomes: dict[str, dict[str, Outcome]], metric: str, methods: list[str]
) -> str:
    at = METRICS.index(metric)
    lines = [
        f"| {metric} | " + " | ".join(methods) + " |",
        "|---" * (len(methods) + 1) + "|",
    ]
    for name, by_method in outcomes.items():
        cells = [
            _cell(by_method[m].values[at], by_method[m].resampled[:, at])
            for m in methods
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    means = [_mean_over_sets(outcomes, m) for m in methods]
    cells = [_cell(mean.values[at], mean.resampled[:, at]) for mean in means]
    return "\n".join([*lines, "| mean | " + " | ".join(cells) + " |"])


def _means(outcomes: dict[str, dict[str, Outcome]]) -> str:
    lines = ["| mean over sets | " + " | ".join(METRICS) + " |", "|---|---|---|---|"]
    for method in next(iter(outcomes.values())):
        mean = _mean_over_sets(outcomes, method)
        cells = [
            _cell(v, r) for v, r in zip(mean.values, mean.resampled.T, strict=True)
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _against_raw(outcomes: dict[str, dict[str, Outcome]], method: str) -> str:
    at = METRICS.index("log loss")
    lines = [f"| log loss of {method} minus no calibration | difference |", "|---|---|"]
    for name, by_method in outcomes.items():
        ours, raw = by_method[method], by_method["none"]
        difference = ours.resampled[:, at] - raw.resampled[:, at]
        lines.append(
            f"| {name} | {_cell(ours.values[at] - raw.values[at], difference)} |"
        )
    return "\n".join(lines)


def _mean_over_sets(outcomes: dict[str, dict[str, Outcome]], method: str) -> Outcome:
    each = [by_method[method] for by_method in outcomes.values()]
    return Outcome(
        np.mean([outcome.values for outcome in each], axis=0),
        np.mean([outcome.resampled for outcome in each], axis=0),
    )


def _cell(value: float, resampled: FloatArray) -> str:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


if __name__ == "__main__":
    main()
