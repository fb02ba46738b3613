"""Compare a shortlist of many labels with listing all of them, and listing none.

    python benchmarks/shortlist.py MODEL --data FOLDER --sets banking77 clinc150

MODEL is a folder or an id. Every way is asked about the same texts of each test set,
with the answer prefix 'Category:', uncalibrated. A shortlist has the most likely
labels of "none listed", which is scored once for all sizes; its figures include that
first prompt. Times are processor time of the scoring, in one thread:
OMP_NUM_THREADS=1. With --cache, an interrupted run goes on.
"""

import argparse
import contextlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from classify import LabelLogprobs, PromptTemplate, ZeroShotClassifier
from classify.metrics import log_loss_from_log_proba
from classify.rows.encoding import candidate_sets

PREFIX = "Category:"
HEADER = (
    "| set | way | accuracy | log loss | right label listed | share left out | "
    "prompt tokens | reads | texts/s |"
)

FloatArray = npt.NDArray[np.float64]


class Asked(NamedTuple):
    """What asking one prompt about each text gave."""

    scores: LabelLogprobs
    n_tokens: float
    seconds: float


class Figures(NamedTuple):
    """What is measured of a way; means over texts."""

    accuracy: float
    log_loss: float
    right_listed: float
    left_out: float
    n_tokens: float
    n_reads: float
    texts_per_second: float


def main() -> None:
    """Score, print."""
    options = _arguments()
    logging.getLogger("classify").setLevel(logging.ERROR)
    print(HEADER)
    print("|---" * (HEADER.count("|") - 1) + "|", flush=True)
    for name in options.sets:
        for way, figures in _cached(options, name).items():
            one = Figures(*figures)
            print(
                f"| {name} | {way} | {one.accuracy:.3f} | {one.log_loss:.2f} | "
                f"{one.right_listed:.3f} | {one.left_out:.3f} | {one.n_tokens:.0f} | "
                f"{one.n_reads:.0f} | {one.texts_per_second:.2f} |",
                flush=True,
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--sets", nargs="+", default=["banking77", "clinc150"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[5, 10, 20])
    parser.add_argument("--texts", type=int, default=200)
    return parser.parse_args()


def _cached(options: argparse.Namespace, name: str) -> dict[str, Figures]:
    if options.cache is None:
        return _measured(options, name)
    sizes = "-".join(map(str, options.sizes))
    asked = f"{Path(options.model).name}-{name}-{options.texts}-{sizes}.json"
    file = options.cache / asked
    if not file.exists():
        found = _measured(options, name)
        options.cache.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found), "utf-8")
    return json.loads(file.read_text("utf-8"))


def _measured(options: argparse.Namespace, name: str) -> dict[str, Figures]:
    frame = pd.read_csv(options.data / f"{name}.csv")
    drawn = frame.sample(options.texts, random_state=0)
    texts, true = drawn.text.tolist(), drawn.label.tolist()
    listing = ZeroShotClassifier(
        sorted(set(frame.label)),
        options.model,
        engine="transformers",
        prompt=PromptTemplate(answer_prefix=PREFIX),
    )
    with contextlib.closing(listing.load_engine()) as engine:
        listing.set_params(engine=engine)
        return _ways(listing, texts, true, options.sizes)


def _ways(
    listing: ZeroShotClassifier,
    texts: list[str],
    true: list[str],
    sizes: Sequence[int],
) -> dict[str, Figures]:
    open_prompt = PromptTemplate(answer_prefix=PREFIX, options="none")
    open_ended = ZeroShotClassifier(
        listing.labels, listing.model, engine=listing.engine, prompt=open_prompt
    )
    first = _asked(open_ended, texts)
    every = _asked(listing, texts)
    share = first.scores.proba
    classes = first.scores.classes
    everything = np.ones_like(share, dtype=np.bool_)
    found = {
        "all listed": _figures([every], every.scores.log_proba, everything, share, true)
    }
    likeliest = np.argsort(-share, axis=1, kind="stable")
    for size in sizes:
        is_listed = np.zeros_like(everything)
        np.put_along_axis(is_listed, likeliest[:, :size], True, axis=1)
        second = _asked(listing, texts, [classes[row].tolist() for row in is_listed])
        with np.errstate(divide="ignore"):
            listed_share = np.log(np.where(is_listed, share, 0.0).sum(axis=1))
            log_proba = np.where(
                is_listed,
                listed_share[:, None] + second.scores.log_proba,
                np.log(share),
            )
        found[f"shortlist of {size}"] = _figures(
            [first, second], log_proba, is_listed, share, true
        )
    found["none listed"] = _figures(
        [first], first.scores.log_proba, ~everything, share, true
    )
    return found


def _asked(
    clf: ZeroShotClassifier,
    texts: list[str],
    candidates: Sequence[Sequence[str]] | None = None,
) -> Asked:
    started = time.process_time()
    scores = clf.label_logprobs(texts, labels=candidates)
    seconds = time.process_time() - started
    scorer = clf.scorer()
    prompts = scorer.encode(
        [{"text": text} for text in texts],
        candidate_sets(candidates, scorer.declared),
    )
    return Asked(scores, float(np.mean([each.n_tokens for each in prompts])), seconds)


def _figures(
    asked: Sequence[Asked],
    log_proba: FloatArray,
    is_listed: npt.NDArray[np.bool_],
    share: FloatArray,
    true: list[str],
) -> Figures:
    classes = asked[0].scores.classes
    at = np.searchsorted(classes, true)
    rows = np.arange(len(true))
    return Figures(
        accuracy=float((log_proba.argmax(axis=1) == at).mean()),
        log_loss=log_loss_from_log_proba(true, log_proba, classes=classes).value,
        right_listed=float(is_listed[rows, at].mean()),
        left_out=float(np.where(is_listed, 0.0, share).sum(axis=1).mean()),
        n_tokens=sum(each.n_tokens for each in asked),
        n_reads=sum(float(each.scores.n_reads.mean()) for each in asked),
        texts_per_second=len(true) / sum(each.seconds for each in asked),
    )


if __name__ == "__main__":
    main()
