"""Reads of token trees: the texts of a batch, with all their branches, in one pass.

Every path to a node that is read is a sequence of its own.
"""

from collections.abc import Iterator

import numpy as np

from classify.engines.llamacpp.network import Logits, NoRoomError, Use, log_softmax
from classify.engines.llamacpp.sequences import MAX_ROWS, Row, Sequences
from classify.errors import EngineError
from classify.tracking import Completed, EdgeLogprobs, ReadRequest, TokenTree

__all__ = ["Reader"]


class Reader:
    """Answers reads, a batch at a time.

    Parameters
    ----------
    sequences : Sequences
    window : int
        Most texts in a batch.
    """

    def __init__(self, sequences: Sequences, window: int) -> None:
        self._sequences = sequences
        self._window = window
        self.waiting: dict[int, ReadRequest] = {}

    def answer_batch(self) -> list[Completed]:
        """Answer one batch of the reads that wait."""
        batch = dict(list(self.waiting.items())[: self._window])
        answers: list[Completed] = []
        rows: list[Row] = []
        for ticket, request in batch.items():
            edges = np.full(request.tree.n_nodes, np.nan)
            answers.append(Completed(ticket, edges))
            rows += _rows(request, edges)
        self._compute(rows)
        for ticket in batch:
            del self.waiting[ticket]
        return answers

    def _compute(self, rows: list[Row]) -> None:
        n_rows = MAX_ROWS
        while rows:
            together = rows[:n_rows]
            try:
                self._sequences.compute(together)
            except NoRoomError:
                if not self._sequences.keeps_prompts:
                    if len(together) == 1:
                        raise EngineError(
                            "llama.cpp's KV cache has no room for a single text: load "
                            "the engine with a larger n_ctx."
                        ) from None
                    n_rows = len(together) // 2
                self._sequences.forget()
                continue
            self._sequences.keep_prompts(together)
            del rows[:n_rows]


def _rows(request: ReadRequest, edges: EdgeLogprobs) -> Iterator[Row]:
    """Yield the paths to the nodes that are asked for; those on the way need none."""
    prompt, tree = tuple(map(int, request.prompt_token_ids)), request.tree
    uses = {node: _use(tree, node, edges) for node in request.nodes}
    covered: set[int] = set()
    # Nodes are numbered from the root down.
    for node in sorted(uses, reverse=True):
        if node not in covered:
            path = _path(tree, node)
            covered.update(path)
            yield Row(
                prompt,
                prompt + tree.path(node),
                {
                    len(prompt) - 1 + depth: uses[each]
                    for depth, each in enumerate(path)
                    if each in uses
                },
            )


def _use(tree: TokenTree, node: int, edges: EdgeLogprobs) -> Use:
    below = tree.children(node)
    children = slice(below.start, below.stop)

    def use(logits: Logits) -> None:
        edges[children] = log_softmax(logits, tree.tokens[children])

    return use


def _path(tree: TokenTree, node: int) -> list[int]:
    """Return the nodes from the root to a node."""
    nodes = [node]
    while nodes[-1] > 0:
        nodes.append(int(tree.parents[nodes[-1]]))
    return nodes[::-1]
