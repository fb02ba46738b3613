"""Label log-probabilities of public test sets, scored once and kept.

Used by `calibration.py`; a folder of .npz files makes its reruns instant.
"""

import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.estimators.classifier import ZeroShotClassifier
from classify.labels import LabelSet
from classify.prompts import PromptTemplate
from classify.prompts.probes import (
    content_free_texts,
    domain_texts,
    premise_texts,
    probe_rows,
)
from classify.rows.encoding import RowEncoder
from classify.scoring import LabelLogprobs, make_strategy, score_prompts
from classify.spec import Scoring
from classify.tokenizer import load_tokenizer
from classify.verbalizer import ScorablePrompt, Verbalizer


class SetPlan(NamedTuple):
    """How many texts of a set are scored, from which files, and how they are asked."""

    n_test: int
    n_train: int
    options: str


# The model was trained on the train splits of three sets, so that nothing of those is
# used. Few texts where there are many labels or long texts, which take longest.
SETS = {
    "trec6": SetPlan(1500, 1000, "inline"),
    "sst2": SetPlan(1500, 1000, "inline"),
    "tweet_emotion": SetPlan(1500, 0, "inline"),
    "tweet_sentiment": SetPlan(1500, 1000, "inline"),
    "ag_news": SetPlan(1500, 1000, "inline"),
    "banking77": SetPlan(500, 1000, "none"),
    "clinc150": SetPlan(1500, 0, "none"),
    "20newsgroups": SetPlan(1500, 0, "inline"),
}
TOLERANCE = 1e-3
# A tweet or a news item is shorter; of a newsgroup's message this is the start.
_MAX_CHARACTERS = 800


@dataclass(frozen=True)
class ScoredSet:
    """Joint log p(label | prompt) of texts that the model was not trained on.

    Attributes
    ----------
    classes : ndarray of str, shape (n_labels,)
    values : ndarray of float64, shape (n_texts, n_labels)
    codes : ndarray of int, shape (n_texts,)
        Columns of the true labels.
    content_free, domain, pmi : ndarray of float64, shape (n_probes, n_labels)
    """

    classes: npt.NDArray[np.str_]
    values: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int64]
    content_free: npt.NDArray[np.float64]
    domain: npt.NDArray[np.float64]
    pmi: npt.NDArray[np.float64]


def scored_set(name: str, data: Path, model: Path, cache: Path) -> ScoredSet:
    """Return the scores of a set, from the cache if they are there."""
    kept = cache / f"{name}.npz"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        np.savez_compressed(kept, **vars(_score(name, data, model)))
        seconds = time.perf_counter() - start
        print(f"{name}: scored in {seconds:.0f} s", file=sys.stderr, flush=True)
    with np.load(kept) as arrays:
        return ScoredSet(**arrays)


def _score(name: str, data: Path, model: Path) -> ScoredSet:
    plan = SETS[name]
    rows = _rows(data / f"{name}.csv", plan.n_test)
    rows += _rows(data / f"{name}_train.csv", plan.n_train)
    texts = [text for text, _ in rows]
    labels = LabelSet.parse(sorted({label for _, label in rows}))
    template = PromptTemplate(options=plan.options)
    classifier = ZeroShotClassifier(
        labels, str(model), prompt=template, tolerance=TOLERANCE
    )
    column = {label: at for at, label in enumerate(classifier.classes_.tolist())}
    probes = {
        "content_free": content_free_texts(),
        "domain": domain_texts(texts),
        "pmi": premise_texts(),
    }
    return ScoredSet(
        classes=classifier.classes_,
        values=classifier.label_logprobs(texts).values,
        codes=np.array([column[label] for _, label in rows]),
        **{
            kind: _score_probes(classifier, template, labels, each)
            for kind, each in probes.items()
        },
    )


def _rows(path: Path, n: int) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(r["text"][:_MAX_CHARACTERS], r["label"]) for r in csv.DictReader(file)]
    rows = [(text, label) for text, label in rows if text.strip()]
    order = np.random.default_rng(0).permutation(len(rows))[:n]
    return [rows[at] for at in order]


def _score_probes(
    classifier: ZeroShotClassifier,
    template: PromptTemplate,
    labels: LabelSet,
    texts: tuple[str, ...],
) -> npt.NDArray[np.float64]:
    engine = classifier.load_engine()
    encoder = RowEncoder(template, Verbalizer(), load_tokenizer(classifier.model))
    rows = probe_rows(texts, template.fields)
    encoded = encoder.encode(rows, [labels] * len(rows), engine.context_length)
    prompts = [prompt for prompt in encoded if isinstance(prompt, ScorablePrompt)]
    strategy = make_strategy(Scoring(tolerance=TOLERANCE))
    scores = score_prompts(prompts, strategy, engine)
    return LabelLogprobs.of(scores, list(classifier.classes_)).values
