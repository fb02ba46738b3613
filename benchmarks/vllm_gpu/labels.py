"""What 77 labels cost beside a bare prefill: exact, all nodes, a request per label.

    python benchmarks/vllm_gpu/labels.py --shape 8b --walks walks.npz

The requests are those that `classify` makes, answered by vLLM on dummy weights; the
values that decide what is read next are replayed from `record_walks.py`.
"""

import argparse
from typing import Any

import numpy as np
from shapes import machine, random_prompts, start, timed

from classify.engines import Engine
from classify.engines.vllm.engine import VllmEngine
from classify.engines.vllm.reading import chains_of
from classify.labels import LabelSet
from classify.scoring.driver import drive
from classify.scoring.strategies import exact
from classify.tracking import Completed, TokenTree
from classify.trie import LabelTrie, WordPath
from classify.verbalizer import ScorablePrompt


class Replayed:
    """An engine that does all the work, and answers with recorded values.

    It reports the nodes asked for and, as `VllmEngine` does, those on the likeliest
    path below each of the chains that cover them.
    """

    def __init__(self, engine: Any, edges: dict[tuple[int, ...], Any]) -> None:
        self._engine, self._edges = engine, edges
        self._answers: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open_line(self) -> "Replayed":
        """Return a line of its own, or its answers would be those of random weights."""
        return Replayed(self._engine.open_line(), self._edges)

    def submit(self, request: Any) -> int:
        """Hand a request on, and prepare its recorded answer."""
        tree, recorded = request.tree, self._edges[request.prompt_token_ids]
        nodes = set(request.nodes)
        if len(nodes) < len(tree.inner_nodes):
            for chain in chains_of(tree, request.nodes):
                nodes.update(_greedy(tree, recorded, chain.nodes[-1]))
        answer = np.full(tree.n_nodes, np.nan)
        for node in nodes:
            below = tree.children(node)
            answer[below.start : below.stop] = recorded[below.start : below.stop]
        ticket = self._engine.submit(request)
        self._answers[ticket] = answer
        return ticket

    def poll(self) -> list[Completed]:
        """Return recorded values for what is finished."""
        return [
            Completed(ticket, self._answers.pop(ticket))
            for ticket, _ in self._engine.poll()
        ]


class Walks:
    """Recorded texts: their labels' paths, and what steers the order of the reads."""

    def __init__(self, path: str) -> None:
        recorded = np.load(path)
        self.paths = [tuple(one[one >= 0].tolist()) for one in recorded["paths"]]
        names = [f"label {at}" for at in range(len(self.paths))]
        words = [WordPath(at, names[at], one) for at, one in enumerate(self.paths)]
        self.trie = LabelTrie(words, LabelSet.parse(names))
        self._edges = recorded["edges"]
        leaves = self.trie.tree.leaves
        self._masses = [
            float(np.exp(self.trie.log_masses(one).estimate[leaves]).sum())
            for one in self._edges
        ]

    def score(
        self,
        engine: VllmEngine,
        prompts: list[list[int]],
        *,
        tolerance: float,
        least_mass: float,
    ) -> tuple[float, dict[str, float]]:
        """Score prompts as texts whose label mass was enough; return seconds, figures.

        Parameters
        ----------
        engine : VllmEngine
        prompts : list of list of int
            Each different from the others.
        tolerance, least_mass : float
        """
        pairs = zip(self._edges, self._masses, strict=True)
        walks = [one for one, mass in pairs if mass >= least_mass]
        rows = [tuple(prompt) for prompt in prompts]
        edges = {row: walks[at % len(walks)] for at, row in enumerate(rows)}
        replayed: Engine = Replayed(engine, edges)
        before = engine.n_requests
        scores: list[Any] = []
        texts = [ScorablePrompt(row, self.trie, truncated=False) for row in rows]
        strategies = (exact(text, tolerance=tolerance) for text in texts)
        took = timed(
            lambda: scores.extend(score for _, score in drive(strategies, replayed))
        )
        return took, {
            "requests": (engine.n_requests - before) / len(rows),
            "reads": float(np.mean([score.n_reads for score in scores])),
            "rounds": float(np.mean([score.n_rounds for score in scores])),
        }


def bare(llm: Any, prompts: list[list[int]]) -> float:
    """Return the seconds of a token for each prompt, without log-probabilities."""
    from vllm import SamplingParams

    inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
    asked = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
    return timed(lambda: llm.generate(inputs, asked, use_tqdm=False))


def _greedy(tree: TokenTree, edges: Any, node: int) -> set[int]:
    nodes = set()
    while tree.n_children[node]:
        nodes.add(node)
        node = max(tree.children(node), key=lambda child: edges[child])
    return nodes


def main() -> None:
    """Print texts a second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b")
    parser.add_argument("--walks", required=True, help="from record_walks.py")
    parser.add_argument("--texts", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--least-mass",
        type=float,
        nargs="+",
        default=[0.9, 0.0],
        help="replay only texts whose label mass was at least this: 0.9 are those that "
        "the small model answered with a label, as a large one nearly always does",
    )
    options = parser.parse_args()
    walks = Walks(options.walks)
    llm = start(options.shape, scheduling_policy="priority")
    engine = VllmEngine(llm)
    print(f"{machine(llm)}; {walks.trie}; window {engine.window}")
    seeds = iter(range(10**6))

    def prompts() -> list[list[int]]:
        return random_prompts(next(seeds), options.texts, options.tokens)

    def scored(
        tolerance: float, n_texts: int, least_mass: float
    ) -> tuple[float, dict[str, float]]:
        rows = prompts()[:n_texts]
        return walks.score(engine, rows, tolerance=tolerance, least_mass=least_mass)

    def per_label(n_texts: int) -> float:
        from vllm import SamplingParams

        rows = prompts()[:n_texts]
        inputs = [{"prompt_token_ids": [*r, *p]} for r in rows for p in walks.paths]
        asked = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=1, detokenize=False
        )
        return timed(lambda: llm.generate(inputs, asked, use_tqdm=False))

    def row(name: str, n_texts: int, took: float, figures: dict[str, float]) -> None:
        ratio = took / n_texts / (base / n)
        told = "".join(f", {value:.2f} {key} a text" for key, value in figures.items())
        print(f"{name:30} {n_texts / took:8.1f} texts/s {ratio:8.3f} x bare{told}")

    n = options.texts
    scored(1e-3, min(n, 256), 0.0)  # compile
    # Interleaved, so that a change of the machine's speed meets all.
    bares: list[float] = []
    found: dict[float, list[tuple[float, dict[str, float]]]] = {}
    for _ in range(options.rounds):
        bares.append(bare(llm, prompts()))
        for mass in options.least_mass:
            found.setdefault(mass, []).append(scored(1e-3, n, mass))
    base = min(bares)
    row("bare prefill", n, base, {})
    for mass, rounds in found.items():
        took, figures = min(rounds, key=lambda one: one[0])
        row(f"exact, 1e-3, label mass >= {mass}", n, took, figures)
    few = max(8, n // 16)
    row("all nodes", few, *scored(0.0, few, 0.0))
    few = max(2, n // 512)
    row("a request per label", few, per_label(few), {})
    engine.close()


if __name__ == "__main__":
    main()
