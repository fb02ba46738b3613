"""Compare the accuracy of prompts with the text first and with the labels first.

    python benchmarks/text_first.py MODEL --data FOLDER

MODEL is a folder or an id. Our recipe with the labels first, which a task with one
question has, is compared with the one that has the text first, which several questions
of a task have so that they share what is computed of the text. Texts are cut to 400
characters. Calibrated figures are of `LabelCalibrator()`, fitted to one half of the
texts and measured on the other, both ways. The interval of the difference is a paired
bootstrap's. One thread: OMP_NUM_THREADS=1.
"""

import argparse
import contextlib
import logging
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from classify import LabelCalibrator, PromptTemplate, ZeroShotClassifier

SETS = ("sst2", "ag_news", "trec6", "tweet_sentiment", "tweet_emotion")
MAX_CHARACTERS = 400
N_DRAWS = 2000

FloatArray = npt.NDArray[np.float64]


class Found(NamedTuple):
    """What is measured of each text: whether it is right, and log p of its label."""

    raw: FloatArray
    calibrated: FloatArray
    log_proba: FloatArray
    label_mass: float


def main() -> None:
    """Score each set in both ways, and print a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--texts", type=int, default=200)
    options = parser.parse_args()
    logging.getLogger("classify").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(
        "| | accuracy, labels first | text first | difference | calibrated, labels "
        "first | text first | difference | log loss | text first | label mass | text "
        f"first |\n{'|---' * 11}|"
    )
    wholes: dict[str, list[Found]] = {"first": [], "last": []}
    for name in options.sets:
        both = {}
        for position in ("last", "first"):
            both[position] = _measured(options, name, position)
            wholes[position].append(both[position])
        print(_row(name, both["last"], both["first"]), flush=True)
    print(_row("mean", _together(wholes["last"]), _together(wholes["first"])))


def _measured(options: argparse.Namespace, name: str, position: str) -> Found:
    frame = pd.read_csv(options.data / f"{name}.csv").sample(
        options.texts, random_state=0
    )
    true = frame.label.to_numpy()
    clf = ZeroShotClassifier(
        sorted(set(true)),
        options.model,
        engine="transformers",
        prompt=PromptTemplate(text_position=position),
    )
    with contextlib.closing(clf.load_engine()) as engine:
        clf.set_params(engine=engine)
        scores = clf.label_logprobs(frame.text.str[:MAX_CHARACTERS].tolist())
    own = np.searchsorted(scores.classes, true)
    calibrated = np.empty_like(scores.log_proba)
    half = np.arange(len(true)) % 2 == 0
    for fitted, measured in ((half, ~half), (~half, half)):
        calibrator = LabelCalibrator().fit(scores[fitted], true[fitted])
        calibrated[measured] = calibrator.predict_log_proba(scores[measured])
    return Found(
        (scores.log_proba.argmax(axis=1) == own).astype(float),
        (calibrated.argmax(axis=1) == own).astype(float),
        calibrated[np.arange(len(own)), own],
        float(scores.label_mass.mean()),
    )


def _together(sets: list[Found]) -> Found:
    """Return the texts of sets that have the same number of texts each."""
    return Found(
        *(np.concatenate(each) for each in list(zip(*sets, strict=True))[:3]),
        float(np.mean([each.label_mass for each in sets])),
    )


def _row(name: str, last: Found, first: Found) -> str:
    return (
        f"| {name} | {_two(last.raw, first.raw)} | "
        f"{_two(last.calibrated, first.calibrated)} | {-last.log_proba.mean():.2f} | "
        f"{-first.log_proba.mean():.2f} | {last.label_mass:.2f} | "
        f"{first.label_mass:.2f} |"
    )


def _two(last: FloatArray, first: FloatArray) -> str:
    difference = first - last
    draws = np.random.default_rng(0).choice(difference, (N_DRAWS, len(difference)))
    low, high = np.quantile(draws.mean(axis=1), (0.025, 0.975))
    return (
        f"{last.mean():.3f} | {first.mean():.3f} | {difference.mean():+.3f} "
        f"({low:+.3f} to {high:+.3f})"
    )


if __name__ == "__main__":
    main()
