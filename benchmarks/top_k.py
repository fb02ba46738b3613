"""What an endpoint is worth that lists only the k likeliest tokens.

    OMP_NUM_THREADS=1 python benchmarks/top_k.py --model FOLDER --data TABLE.csv

The texts of a table (columns text, label) are scored over all labels of its column with
one model in float32, with and without the options in the prompt: exactly, by the
transformers engine that reads every node, and for each k from the k likeliest tokens of
a plain transformers model, through the bounds that the server engine makes of lists;
last, from every token, as of a server that is exact. A request is what one node takes
that is read. The exact probabilities must lie within the bounds, and a label that is
certain must be the exact one.
"""

import argparse
import copy
import itertools
import logging
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, DynamicCache

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from classify import PromptTemplate, ZeroShotClassifier
from classify.decision.posteriors import Posteriors
from classify.engines import BaseEngine
from classify.engines.server.listing import Entry, token_list
from classify.tracking import Completed, EdgeBounds, common_prefix_length

WITHIN = 0.01
# Two ways to compute in float32 differ by as much.
ROUNDING = 1e-4
# Paths in a pass.
_N_TOGETHER = 16


class Passes:
    """Plain passes of a transformers model behind one prompt after another.

    Keys and values of a prompt are kept, and the next one builds on those of the tokens
    that both begin with.
    """

    def __init__(self, folder):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model = model.eval()
        self._prompt, self._cache = (), DynamicCache(config=model.config)
        self._known, self._rows = None, {}

    def rows(self, prompt, tree):
        """Return log p(token | prompt, path) of all tokens, for each node by number."""
        known = prompt, tree.paths
        if known != self._known:
            self._known, self._rows = known, self._computed(prompt, tree)
        return self._rows

    @torch.inference_mode()
    def _computed(self, prompt, tree):
        n_kept = common_prefix_length([self._prompt, prompt[:-1]])
        n_more = self._cache.get_seq_length() - n_kept
        if n_more:
            self._cache.crop(-n_more)
        self._prompt = prompt
        out = self.model(
            torch.tensor([prompt[n_kept:]]),
            past_key_values=self._cache,
            logits_to_keep=1,
        )
        rows = {(): logprobs(out.logits[0, -1])}
        paths = sorted({path[:-1] for path in tree.paths} - {()}, key=len)
        for start in range(0, len(paths), _N_TOGETHER):
            batch = paths[start : start + _N_TOGETHER]
            width = len(batch[-1])
            cache = copy.deepcopy(self._cache)
            cache.batch_repeat_interleave(len(batch))
            # What follows a path changes nothing before it.
            padded = [path + (0,) * (width - len(path)) for path in batch]
            logits = self.model(torch.tensor(padded), past_key_values=cache).logits
            for path, own in zip(batch, logits, strict=True):
                for at in range(len(path)):
                    if path[: at + 1] not in rows:
                        rows[path[: at + 1]] = logprobs(own[at])
        return {node: rows[tree.path(node)] for node in tree.inner_nodes.tolist()}


def logprobs(logits):
    return torch.log_softmax(logits.double(), dim=-1).numpy()


class ListEngine(BaseEngine):
    """Shows the k likeliest tokens, as servers do; with k=None every token."""

    name, window = "lists", 1

    def __init__(self, passes, k):
        self.vocab_size = passes.model.config.vocab_size
        self.context_length = passes.model.config.max_position_embeddings
        self.lists_only = k is not None
        self.n_requests = 0
        self._passes, self._k = passes, k
        self._tickets, self._waiting = itertools.count(), deque()

    def submit(self, request):
        self._waiting.append((next(self._tickets), request))
        return self._waiting[-1][0]

    def poll(self):
        if not self._waiting:
            return []
        ticket, request = self._waiting.popleft()
        self.n_requests += len(request.nodes)
        tree = request.tree
        rows = self._passes.rows(request.prompt_token_ids, tree)
        rows = {node: rows[node] for node in request.nodes}
        if self.lists_only:
            lists = {node: self._list(row) for node, row in rows.items()}
            answer = EdgeBounds.of_lists(tree, lists, self.vocab_size)
        else:
            answer = np.full(tree.n_nodes, np.nan)
            for node, row in rows.items():
                children = list(tree.children(node))
                answer[children] = row[tree.tokens[children]]
        return [Completed(ticket, answer)]

    def _list(self, row):
        likeliest = np.argpartition(-row, self._k)[: self._k].tolist()
        entries = [Entry(float(row[token]), token, "") for token in likeliest]
        return token_list(
            entries,
            None,
            n_listed=self._k,
            vocab_size=self.vocab_size,
            rounding=1e-5,
        )

    def close(self):
        self._waiting.clear()


def main():
    """Print a table, with a row for each prompt and k."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--k", type=int, nargs="+", default=[5, 20])
    parser.add_argument(
        "--options", nargs="+", default=["inline", "none"], help="of the prompt"
    )
    asked = parser.parse_args()
    logging.getLogger("classify").setLevel("ERROR")
    table = pd.read_csv(asked.data)
    texts = table["text"].sample(asked.texts, random_state=0).tolist()
    labels = sorted(table["label"].unique())
    passes = Passes(asked.model)
    print(f"{len(texts)} texts, {len(labels)} labels, tolerance {asked.tolerance:g}\n")
    print(
        "| options in the prompt | mean label mass | tokens listed | label certain "
        f"| same label | p known within {WITHIN:g} | p off by at most {WITHIN:g} "
        "| requests per text |\n|---|---|---|---|---|---|---|---|"
    )
    shown = [*asked.k, None]
    for options in asked.options:
        common = {
            "labels": labels,
            "model": str(asked.model),
            "prompt": PromptTemplate(options=options),
        }
        exact = ZeroShotClassifier(
            **common, engine="transformers", device="cpu", tolerance=0.0
        ).label_logprobs(texts)
        engines = [ListEngine(passes, k) for k in shown]
        classifiers = [
            ZeroShotClassifier(**common, engine=engine, tolerance=asked.tolerance)
            for engine in engines
        ]
        found = [[] for _ in shown]
        for text, truth in zip(texts, exact.proba, strict=True):
            for classifier, rows in zip(classifiers, found, strict=True):
                scores = classifier.label_logprobs([text])
                rows.append(compared(scores, truth, asked.tolerance))
        for k, engine, rows in zip(shown, engines, found, strict=True):
            certain, same, known, close = np.mean(rows, axis=0)
            print(
                f"| {options} | {exact.label_mass.mean():.2g} | {k or 'every token'} "
                f"| {certain:.0%} | {same:.0%} | {known:.0%} | {close:.0%} "
                f"| {engine.n_requests / len(texts):.1f} |",
                flush=True,
            )


def compared(scores, truth, tolerance):
    """Return what holds of a text: certain, right label, known p, right p."""
    posteriors = Posteriors.of(scores)
    lower, upper = np.exp(scores.bounds.around(scores.log_proba))
    assert (lower[0] <= truth + ROUNDING).all()
    assert (truth <= upper[0] + ROUNDING).all()
    known, [best] = posteriors.known(tolerance), posteriors.best
    is_certain = known.certain[0]
    assert not is_certain or truth[best] >= truth.max() - tolerance - ROUNDING
    return (
        is_certain,
        best == truth.argmax(),
        known.upper[0] - known.lower[0] <= WITHIN,
        abs(scores.proba[0, best] - truth[best]) <= WITHIN,
    )


if __name__ == "__main__":
    main()
