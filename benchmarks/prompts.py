"""What a prompt that suits the model is worth, on public test sets.

    python benchmarks/prompts.py MODEL --data FOLDER --cache FOLDER

MODEL is a folder or an id. For each set, a prompt is chosen with 64 texts of the
training split without labels, and with 50 of them with labels; these 50 are the
examples of few-shot prompts (8, balanced), before the prompt chosen without labels.
Accuracy, log loss and ECE (15 bins) are those of 200 texts of the test split. Texts are
cut to 400 characters. One thread: OMP_NUM_THREADS=1. With --cache, an interrupted run
goes on.
"""

import argparse
import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from classify import LabelCalibrator, PromptTemplate, ZeroShotClassifier, tune_prompt
from classify.metrics import calibration_error, log_loss_from_log_proba

SETS = ("sst2", "ag_news", "trec6", "tweet_sentiment", "tweet_emotion", "20newsgroups")
N_TUNING, N_LABELLED, N_TEST = 64, 50, 200
MAX_CHARACTERS = 400

FloatArray = npt.NDArray[np.float64]


class Split(NamedTuple):
    """Texts with their labels."""

    texts: list[str]
    labels: list[str]


class Figures(NamedTuple):
    """What is measured of posteriors."""

    accuracy: float
    log_loss: float
    ece: float


def main() -> None:
    """Choose, score, print."""
    options = _arguments()
    logging.getLogger("classify").setLevel(logging.ERROR)
    rows: dict[str, list[Figures]] = {}
    for name in options.sets:
        found = _cached(options, name, lambda name=name: _measure(options, name))
        print(f"{name}: {found.pop('chosen')}", flush=True)
        for way, figures in found.items():
            rows.setdefault(way, []).append(Figures(*figures))
    print(_table(rows, options.sets))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    return parser.parse_args()


def _cached(options: argparse.Namespace, name: str, measure: Any) -> dict[str, Any]:
    if options.cache is None:
        return measure()
    asked = hashlib.sha256(f"{options.model} {name}".encode()).hexdigest()[:12]
    file = options.cache / f"{name}-{asked}.json"
    if not file.exists():
        options.cache.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(measure()), "utf-8")
    return json.loads(file.read_text("utf-8"))


def _measure(options: argparse.Namespace, name: str) -> dict[str, Any]:
    tuning = _drawn(options.data / f"{name}_train.csv", N_TUNING)
    test = _drawn(options.data / f"{name}.csv", N_TEST)
    clf = ZeroShotClassifier(
        sorted(set(tuning.labels) | set(test.labels)),
        options.model,
        engine="transformers",
    )
    with contextlib.closing(clf.load_engine()) as engine:
        return _measured(clf.set_params(engine=engine), tuning, test)


def _measured(clf: ZeroShotClassifier, tuning: Split, test: Split) -> dict[str, Any]:
    without = tune_prompt(clf, tuning.texts)
    labelled = Split(tuning.texts[:N_LABELLED], tuning.labels[:N_LABELLED])
    with_labels = tune_prompt(clf, labelled.texts, labelled.labels)
    chosen = {
        "default": PromptTemplate(),
        "tuned without labels": without.best,
        "tuned with 50 labels": with_labels.best,
        "8 examples": replace(
            without.best,
            examples=pd.DataFrame(labelled._asdict()).rename(
                columns={"texts": "text", "labels": "label"}
            ),
        ),
    }
    found: dict[str, Any] = {
        "chosen": [without.prompts[0].name, with_labels.prompts[0].name]
    }
    for way, prompt in chosen.items():
        clf.set_params(prompt=prompt)
        scores = clf.label_logprobs(test.texts)
        before = clf.label_logprobs(tuning.texts)
        found[way] = _figures(scores.log_proba, scores.classes, test.labels)
        matched = LabelCalibrator("prior_matching").fit(before)
        found[f"{way}, prior matching"] = _figures(
            matched.predict_log_proba(scores), scores.classes, test.labels
        )
        fitted = LabelCalibrator().fit(before[:N_LABELLED], labelled.labels)
        found[f"{way}, calibrated with 50 labels"] = _figures(
            fitted.predict_log_proba(scores), scores.classes, test.labels
        )
    return found


def _drawn(file: Path, n_texts: int) -> Split:
    frame = pd.read_csv(file).sample(n_texts, random_state=0)
    return Split(frame.text.str[:MAX_CHARACTERS].tolist(), frame.label.tolist())


def _figures(
    log_proba: FloatArray, classes: npt.NDArray[np.str_], true: list[str]
) -> Figures:
    best = classes[log_proba.argmax(axis=1)]
    proba = np.exp(log_proba)
    return Figures(
        float((best == np.array(true)).mean()),
        log_loss_from_log_proba(true, log_proba, classes=classes).value,
        calibration_error(true, proba, classes=classes),
    )


def _table(rows: Mapping[str, list[Figures]], sets: list[str]) -> str:
    lines = [
        f"| | {' | '.join(sets)} | mean accuracy | mean log loss | mean ECE |",
        "|---" * (len(sets) + 4) + "|",
    ]
    for way, figures in rows.items():
        means = np.mean(figures, axis=0)
        each = " | ".join(f"{one.accuracy:.3f}" for one in figures)
        lines.append(
            f"| {way} | {each} | {means[0]:.3f} | {means[1]:.2f} | {means[2]:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
