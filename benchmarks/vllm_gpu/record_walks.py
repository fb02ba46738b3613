"""Record log-probabilities of all label tokens, for `labels.py` to replay.

    python benchmarks/vllm_gpu/record_walks.py --model M --data clinc150.csv walks.npz

Weights of a benchmark on an 8B shape are dummies, whose logits are nearly equal: every
label would seem as likely as any other, and every node would have to be read. So the
values that steer the walk come from a real, small model that answers with labels.
"""

import argparse

import numpy as np
import pandas as pd

from classify import LabelSet, PromptTemplate, ZeroShotClassifier
from classify.engines import read
from classify.tracking import ReadRequest

QUESTION = "Classify the intent of the following text.\n\n{text}\n\nIntent:"


def main() -> None:
    """Write paths and edges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="columns text and label")
    parser.add_argument("--labels", type=int, default=77)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("output")
    options = parser.parse_args()
    frame = pd.read_csv(options.data)
    names = sorted(frame["label"].unique())[: options.labels]
    texts = frame.loc[frame["label"].isin(names), "text"].tolist()[: options.texts]
    classifier = ZeroShotClassifier(
        labels=names,
        model=options.model,
        engine="transformers",
        prompt=PromptTemplate(QUESTION),
    )
    labels = LabelSet.parse(names)
    engine = classifier.load_engine()
    prompts = classifier.scorer().model.encode(
        [{"text": text} for text in texts], [labels] * len(texts)
    )
    tree = prompts[0].trie.tree
    nodes = tuple(tree.inner_nodes.tolist())
    edges = read(engine, [ReadRequest(p.token_ids, tree, nodes) for p in prompts])
    width = tree.max_depth
    paths = np.full((len(tree.paths), width), -1)
    for row, path in enumerate(tree.paths):
        paths[row, : len(path)] = path
    np.savez_compressed(options.output, paths=paths, edges=np.stack(edges))
    print(f"{len(edges)} texts, {tree}")


if __name__ == "__main__":
    main()
