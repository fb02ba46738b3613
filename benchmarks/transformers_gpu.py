"""What labels cost on a GPU without vLLM, beside plain forward passes.

    python benchmarks/transformers_gpu.py --walks walks.npz

The transformers engine reads a model of 1B shape with random weights; the values that
decide what is read next are replayed from `vllm_gpu/record_walks.py`. The plain pass
computes the same prompts in batches, with logits for their last token, at the best of
several batch sizes.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from classify.engines.transformers.engine import TransformersEngine
from classify.labels import LabelSet
from classify.scoring.driver import drive
from classify.scoring.strategies import exact
from classify.tracking import Completed
from classify.trie import LabelTrie, WordPath
from classify.verbalizer import ScorablePrompt

sys.path.insert(0, str(Path(__file__).parent / "vllm_gpu"))
from shapes import config_of, random_prompts, timed

FEW_LABELS = 5
BATCHES = (16, 32, 64, 128)


class Replayed:
    """An engine that does all the work, and answers with recorded values."""

    def __init__(self, engine: Any, edges: dict[tuple[int, ...], Any]) -> None:
        self._engine, self._edges = engine, edges
        self._recorded: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open_line(self) -> "Replayed":
        """Return a line of its own."""
        return Replayed(self._engine.open_line(), self._edges)

    def submit(self, request: Any) -> int:
        """Hand a request on, and remember what its answer was."""
        ticket: int = self._engine.submit(request)
        self._recorded[ticket] = self._edges[request.prompt_token_ids]
        return ticket

    def poll(self) -> list[Completed]:
        """Return recorded values of the nodes that were read."""
        return [
            Completed(
                ticket,
                np.where(np.isnan(answer), np.nan, self._recorded.pop(ticket)),
            )
            for ticket, answer in self._engine.poll()
        ]


def trie_of(paths: list[tuple[int, ...]]) -> LabelTrie:
    """Return the trie of labels that have no names."""
    names = [f"label {at}" for at in range(len(paths))]
    words = [WordPath(at, names[at], path) for at, path in enumerate(paths)]
    return LabelTrie(words, LabelSet.parse(names))


def main() -> None:
    """Print texts a second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="1b")
    parser.add_argument("--walks", required=True, help="from record_walks.py")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 64])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    recorded = np.load(options.walks)
    paths = [tuple(path[path >= 0].tolist()) for path in recorded["paths"]]
    trie = trie_of(paths)
    mass = [
        np.exp(trie.log_masses(edges).estimate[trie.tree.leaves]).sum()
        for edges in recorded["edges"]
    ]
    walks = recorded["edges"][np.array(mass) >= 0.9]  # answered with a label
    config = transformers.AutoConfig.for_model(**config_of(options.shape))
    torch.manual_seed(0)
    with torch.device(options.device):
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, options.dtype)
        )
    engine = TransformersEngine(model)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(
        f"{name}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{options.dtype}, {engine.read_mode}, {trie}, {len(walks)} walks"
    )
    few = trie_of([path[:2] for path in _with_different_starts(paths, FEW_LABELS)])
    random = np.random.default_rng(0)
    few_walks = [_random_edges(few, random) for _ in range(64)]
    seeds = iter(range(10**6))
    for length in options.tokens:

        def prompts(length: int = length) -> list[tuple[int, ...]]:
            rows = random_prompts(next(seeds), options.texts, length)
            return [tuple(row) for row in rows]

        plain = min(
            timed(lambda batch=batch: _plain(model, prompts(), batch))
            for batch in BATCHES
            for _ in range(options.rounds)
        )
        print(f"{length} tokens: plain {options.texts / plain:.0f} texts/s")
        for what, tree, steering, tolerance in (
            ("5 labels, exact", few, few_walks, 0.0),
            ("5 labels, 1e-3", few, few_walks, 1e-3),
            ("77 labels, exact", trie, walks, 0.0),
            ("77 labels, 1e-3", trie, walks, 1e-3),
        ):
            took = min(
                _scored(engine, prompts(), tree, steering, tolerance)
                for _ in range(options.rounds)
            )
            print(
                f"  {what:18} {options.texts / took:7.0f} texts/s {took / plain:6.2f} x"
            )
    engine.close()


def _with_different_starts(
    paths: list[tuple[int, ...]], n: int
) -> list[tuple[int, ...]]:
    firsts: dict[int, tuple[int, ...]] = {}
    for path in paths:
        if len(path) > 1:
            firsts.setdefault(path[0], path)
    return list(firsts.values())[:n]


def _random_edges(trie: LabelTrie, random: Any) -> Any:
    """Values of a model that is sure of its answer, as most are."""
    edges = np.zeros(trie.tree.n_nodes)
    for node in trie.tree.inner_nodes.tolist():
        below = list(trie.tree.children(node))
        shares = random.dirichlet([0.3] * len(below)) * 0.98
        edges[below] = np.log(np.maximum(shares, 1e-6))
    return edges


def _plain(model: Any, prompts: list[tuple[int, ...]], batch: int) -> None:
    with torch.inference_mode():
        for start in range(0, len(prompts), batch):
            ids = torch.tensor(prompts[start : start + batch], device=model.device)
            logits = model(input_ids=ids, logits_to_keep=1, use_cache=False).logits
            torch.log_softmax(logits.float(), dim=-1)[:, 0, :8].cpu()


def _scored(
    engine: Any, prompts: list[tuple[int, ...]], trie: LabelTrie, walks: Any, tol: float
) -> float:
    edges = {row: walks[at % len(walks)] for at, row in enumerate(prompts)}
    texts = [ScorablePrompt(row, trie, truncated=False) for row in prompts]
    replayed: Any = Replayed(engine, edges)
    strategies = (exact(text, tolerance=tol) for text in texts)
    return timed(lambda: list(drive(strategies, replayed)))


if __name__ == "__main__":
    main()
