"""What drafting saves where labels are generated: none, prompt lookup, our drafter.

    python benchmarks/label_speculation.py --model FOLDER --data banking77.csv

One label a text is generated along the trie (``strategy="generate"``), with the options
listed in the very tokens of their answers, which is what prompt lookup needs. A pass is
one step of the model; every accepted draft token saves one.
"""

import argparse
import os

import numpy as np
import pandas as pd

from classify import PromptTemplate, ZeroShotClassifier
from classify.demo import located
from classify.engines.vllm.engine import VllmEngine

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


def main() -> None:
    """Print a row for each way of drafting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--data", required=True, help="columns text and label")
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--texts", type=int, default=64)
    options = parser.parse_args()
    frame = pd.read_csv(options.data)
    names = sorted(frame["label"].unique())[: options.labels]
    texts = frame.loc[frame["label"].isin(names), "text"].tolist()[: options.texts]
    print(f"{len(texts)} texts, {len(names)} labels")
    print(f"{'drafts by':10} tokens  drafts  drafted  accepted  passes a text")
    first = None
    for method in (None, "ngram", "labels"):
        engine = VllmEngine.load(
            located(options.model), speculation=method, self_test=False
        )
        scores = ZeroShotClassifier(
            names,
            options.model,
            engine=engine,
            strategy="generate",
            prompt=PromptTemplate(options="verbatim"),
        ).label_logprobs(texts)
        figures = engine.speculation_figures()
        engine.close()
        n_tokens = int(scores.n_reads.sum())
        drafts, drafted, accepted = (
            (figures.n_drafts, figures.n_draft_tokens, figures.n_accepted_tokens)
            if figures
            else (0, 0, 0)
        )
        print(
            f"{method or 'none':10} {n_tokens:6} {drafts:7} {drafted:8} {accepted:9} "
            f"{(n_tokens - accepted) / len(texts):14.2f}"
        )
        first = scores.values if first is None else first
        if not np.allclose(scores.values, first, atol=1e-4):
            raise SystemExit(f"{method}: the values differ from those without drafts")


if __name__ == "__main__":
    main()
