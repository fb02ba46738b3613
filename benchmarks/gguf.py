"""A GGUF file through llama.cpp: one pass for many texts, or a call for each node.

    python benchmarks/gguf.py --model model.gguf --data tickets.csv --label-column label

All ways answer the same question in one run, on one thread: log p(label and the end of
the answer | text) for all labels of a table. Times are those of the processor.

- `classify`: this package, to its usual tolerance.
- `all nodes`: this package's engine asked for every node.
- `nodes`: one llama.cpp call for each node of the label tree, the prompt kept between
  calls.
- `branching`: the same for nodes with several children only, as TriePick reads. The
  other tokens of a label count as certain, so its values are of another quantity.
- `labels`: one llama.cpp call for each label over prompt and label.
- `CAPPr`, with `--cappr`: its llama.cpp backend, which reads a prompt once, and then
  each label. It leaves out the end of the answer, and is compared without it. Install
  `cappr` and a `llama-cpp-python` that it works with, such as 0.3.2.
- `float32`: the dequantized model in transformers.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from classify import PromptTemplate, ZeroShotClassifier
from classify.engines import read
from classify.engines.llamacpp.engine import LlamaCppEngine
from classify.engines.llamacpp.network import Model, Network, Token, log_softmax
from classify.tokenizer import load_tokenizer
from classify.tracking import ReadRequest, TokenTree, common_prefix_length


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--slow-texts", type=int, default=4, help="for the others")
    parser.add_argument("--float32", help="folder of the dequantized model")
    parser.add_argument("--cappr", action="store_true")
    given = parser.parse_args()
    table = pd.read_csv(given.data)
    labels = sorted(table[given.label_column].unique())
    texts = table["text"].sample(given.texts, random_state=0).tolist()
    tokenizer = load_tokenizer(given.model)
    asked = [f"{text}\nTopic:" for text in texts]
    prompts = [tokenizer.encode_text(each) for each in asked]
    answers = [
        (*tokenizer.encode_text(f" {label}"), tokenizer.eos_id) for label in labels
    ]
    tree = TokenTree(answers)
    engine = LlamaCppEngine.load(given.model, n_threads=1)
    network = Network(Model(given.model), n_ctx=1024, n_threads=1)
    read(engine, [ReadRequest(prompts[0], tree, (0,))])  # warm
    engine.free_memory()
    n_tokens = np.mean([len(each) for each in prompts])
    print(
        f"{len(texts)} texts of {n_tokens:.0f} tokens, {len(labels)} labels: "
        f"{tree.n_nodes} nodes, {len(tree.inner_nodes)} with children, "
        f"{(tree.n_children > 1).sum()} with several"
    )
    clf = ZeroShotClassifier(
        labels,
        engine=engine,
        tokenizer=tokenizer,
        prompt=PromptTemplate("{text}\nTopic:", chat=False),
    )
    measured("classify", texts, clf.predict_proba)
    engine.free_memory()
    found = measured("all nodes", prompts, lambda them: ours(engine, them, tree))
    for name, way, n in (
        ("nodes", lambda them: by_nodes(network, them, tree), given.slow_texts),
        ("labels", lambda them: by_labels(network, them, tree), given.slow_texts),
    ):
        other = measured(name, prompts[:n], way)
        compare(other, found[:n])
    few = prompts[: given.slow_texts]
    measured("branching", few, lambda them: by_nodes(network, them, tree, least=2))
    if given.cappr:
        from llama_cpp import Llama

        one = {"n_threads": 1, "n_threads_batch": 1}
        model = Llama(given.model, n_ctx=1024, **one, verbose=False)
        few = asked[: given.slow_texts]
        other = measured("CAPPr", few, lambda them: by_cappr(model, them, labels))
        few = prompts[: given.slow_texts]
        compare(other, ours(engine, few, tree, with_end=False))
    if given.float32:
        from classify.engines.transformers import TransformersEngine

        slow = TransformersEngine.load(given.float32, device="cpu")
        compare(
            measured("float32", prompts, lambda them: ours(slow, them, tree)), found
        )


def compare(other, found):
    logprobs = np.abs(other - found)
    shares = np.abs(softmax(other, axis=1) - softmax(found, axis=1))
    same = (other.argmax(1) == found.argmax(1)).sum()
    print(
        f"  against all nodes: log-probabilities differ by {logprobs.mean():.1e} "
        f"({logprobs.max():.1e} at most), probabilities by {shares.mean():.1e} "
        f"({shares.max():.1e} at most); the same label for {same} of {len(other)}"
    )


def measured(name, prompts, way):
    started = time.process_time()
    values = way(prompts)
    seconds = time.process_time() - started
    print(f"{name:9} {len(prompts) / seconds:7.3f} texts a second", flush=True)
    return values


def ours(engine, prompts, tree, *, with_end=True):
    nodes = tuple(tree.inner_nodes.tolist())
    requests = [ReadRequest(prompt, tree, nodes) for prompt in prompts]
    return np.array([sums(tree, edges, with_end) for edges in read(engine, requests)])


def sums(tree, edges, with_end=True):
    """Return log p of each path from those of the edges, with its last or without."""
    totals = np.zeros(tree.n_nodes)
    for node in range(1, tree.n_nodes):
        totals[node] = totals[tree.parents[node]] + edges[node]
    return totals[tree.leaves if with_end else tree.parents[tree.leaves]]


def by_nodes(network, prompts, tree, least=1):
    """Return log p of each path; a call for each node with as many children."""
    rows = []
    for prompt in prompts:
        edges, kept = np.full(tree.n_nodes, np.nan), ()
        network.clear()
        for node in depth_first(tree):
            if tree.n_children[node] < least:
                continue
            wanted = (*prompt, *tree.path(node))
            n = common_prefix_length([kept, wanted[:-1]])
            network.cut(0, n)
            [logits] = called(network, wanted, n, {len(wanted) - 1})
            children = list(tree.children(node))
            edges[children] = log_softmax(logits, tree.tokens[children])
            kept = wanted
        rows.append(sums(tree, np.nan_to_num(edges)))
    return np.array(rows)


def depth_first(tree, node=0):
    """Yield inner nodes so that a call goes on from the one before, where it can."""
    if tree.n_children[node]:
        yield node
        for child in tree.children(node):
            yield from depth_first(tree, child)


def by_labels(network, prompts, tree):
    """Return log p of each path; a call over prompt and path for each."""
    rows = []
    for prompt in prompts:
        row = []
        for path in tree.paths:
            network.clear()
            positions = range(len(prompt) - 1, len(prompt) + len(path) - 1)
            logits = called(network, (*prompt, *path[:-1]), 0, positions)
            row.append(
                sum(
                    log_softmax(each)[token]
                    for each, token in zip(logits, path, strict=True)
                )
            )
        rows.append(row)
    return np.array(rows)


def by_cappr(model, prompts, labels):
    """Return log p of each label without an end."""
    # Its other backend, which it imports too, does not work with transformers 5.
    sys.modules["cappr.huggingface"] = None
    from cappr.llama_cpp.classify import log_probs_conditional

    found = log_probs_conditional(prompts, labels, model, show_progress_bar=False)
    return np.array([[sum(each) for each in row] for row in found])


def called(network, token_ids, start, positions):
    """Return the logits at positions, of one llama.cpp call from a start on."""
    found = []
    network.compute(
        [
            Token(
                token_ids[at],
                at,
                [0],
                [lambda logits: found.append(logits.copy())] if at in positions else [],
            )
            for at in range(start, len(token_ids))
        ]
    )
    return found


if __name__ == "__main__":
    main()
