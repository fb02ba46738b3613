"""Self-checks: whether a way of reading is right for a model.

A mask that a model ignores or misreads gives plausible numbers that are wrong. So the
faster ways are compared with plain forward passes over `prompt + path`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from classify.engines.transformers.forked_pass import (
    follow_forks,
    new_forks,
    prefix_fork,
)
from classify.engines.transformers.network import Network
from classify.engines.transformers.plain import path_read, uncached_read
from classify.engines.transformers.tree_pass import (
    Asked,
    follow_up,
    new_prompts,
    prefix_slots,
)
from classify.errors import ModelLoadError
from classify.tracking import EdgeLogprobs, TokenTree

__all__ = ["ReadMode", "check_causal", "fault_at_length", "fault_on_sample", "widened"]

ReadMode = Literal["tree", "forked", "cached", "uncached"]
# Greatest difference of a log-probability that rounding explains, and the share of
# what a different prompt changes that it may be: nearly uniform predictions hide a
# wrong mask in small numbers.
_TOLERANCES = {
    torch.float64: (1e-6, 1e-4),
    torch.float32: (1e-3, 0.02),
    torch.float16: (0.06, 0.1),
}
_COARSE = (0.5, 0.25)  # bfloat16 and below
_MIN_TOLERANCE = 1e-5
# Tokens of the text next to the one that is compared.
_MIN_NEIGHBOUR = 3
# What a network raises when it is called in a way that it does not know.
_CALL_ERRORS = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    KeyError,
    IndexError,
    AssertionError,
)


def check_causal(network: Network) -> None:
    """Raise ModelLoadError unless what follows a token leaves its logits alone."""
    name = type(network.model).__name__
    prompt = _sample(network)[0][1]
    try:
        logits = [network(np.array([prompt[:-1]]), keep=1)[0][0, 0]]
        # The same token with another after it, and that other token.
        logits += network(np.array([prompt]), keep=2)[0][0]
    except torch.OutOfMemoryError:
        raise
    except _CALL_ERRORS as error:
        raise ModelLoadError(
            f"{name} does not compute a text given as token ids alone: {_said(error)}. "
            "Its configuration may be broken, or it is part of another model. Choose a "
            "model trained to predict the next token."
        ) from error
    alone, followed, other = (torch.log_softmax(row.float(), -1) for row in logits)
    worst = float((alone - followed).abs().max())
    if not worst <= _tolerance(network, float((alone - other).abs().max())):
        raise ModelLoadError(
            f"{name} is not a causal language model: what it predicts at a token "
            f"changes with the tokens after it (by {worst:.2g} nats). Choose a model "
            "trained to predict the next token."
        )


def _said(error: Exception) -> str:
    first_line = (str(error).splitlines() or [""])[0][:120].rstrip(".")
    return f"{type(error).__name__}: {first_line}"


def fault_on_sample(network: Network, mode: ReadMode) -> str | None:
    """Try a way of reading on a few tokens; return what is wrong with it, or None."""
    prompts, tree = _sample(network)
    return _fault(network, mode, _Trial(tuple(prompts), tree), with_prefix=True)


def fault_at_length(
    network: Network,
    mode: ReadMode,
    token_ids: tuple[int, ...],
    length: int,
    n_nodes: int,
    *,
    across: bool,
) -> str | None:
    """Try a way of reading on a text made of these ids, with many nodes after it.

    A model that counts what is before a token, where it should look at positions, is
    right for a node or two and wrong for many: they stand in later slots than in their
    texts.

    Parameters
    ----------
    network : Network
    mode : {"tree", "forked", "cached"}
    token_ids : tuple of int
        What the text is made of.
    length : int
        Tokens of the text, with the deepest node.
    n_nodes : int
        Nodes after the text, the root aside.
    across : bool
        Whether to read across lengths above which the model may compute differently.
    """
    if network(np.array([token_ids]), keep=1)[0].isnan().any():
        # A text that the model cannot compute shows nothing.
        token_ids = _sample(network)[0][1]
    tree = _broad_tree(network, token_ids[0], n_nodes)
    # Among the deepest, and all others stand before it.
    last = int(tree.inner_nodes[-1])
    depth = int(tree.depths[last])
    n_tokens = max(_MIN_NEIGHBOUR + 1, length - depth)
    if not across:
        n_tokens = _past_edges(network, n_tokens, depth)
    text = (token_ids * (n_tokens // len(token_ids) + 1))[:n_tokens]
    # Batches mix lengths, on both sides of whatever a model changes at.
    trial = _Trial((text, text[:_MIN_NEIGHBOUR]), tree, (0, last))
    return _fault(network, mode, trial, with_prefix=False)


def _past_edges(network: Network, n_tokens: int, depth: int) -> int:
    """Lengthen a text until what follows it crosses no edge."""
    for edge in network.length_edges:
        if n_tokens <= edge < n_tokens + depth:
            n_tokens = edge + 1
    return min(n_tokens, max(_MIN_NEIGHBOUR + 1, network.context_length - depth))


def _broad_tree(network: Network, token: int, n_nodes: int) -> TokenTree:
    """Every inner node has up to four of them below it, and at least a leaf."""
    tokens = [(token + i) % network.vocab_size for i in range(5)]
    paths: list[tuple[int, ...]] = [()]
    for i in range(n_nodes):
        paths.append((*paths[i // 4], tokens[i % 4]))
    return TokenTree([(*path, tokens[4]) for path in paths])


class _Trial(NamedTuple):
    """Prompts after which to read all inner nodes of a tree, and which are compared."""

    prompts: tuple[tuple[int, ...], ...]
    tree: TokenTree
    compared: tuple[int, ...] | None = None  # None: all

    def expected(self, network: Network) -> list[EdgeLogprobs]:
        """The results of plain forward passes."""
        if self.compared is None:
            return [path_read(network, prompt, self.tree) for prompt in self.prompts]
        return [
            uncached_read(network, prompt, self.tree, self.compared)
            for prompt in self.prompts
        ]


def _fault(
    network: Network, mode: ReadMode, trial: _Trial, *, with_prefix: bool
) -> str | None:
    expected = trial.expected(network)
    try:
        if mode == "tree":
            deviation = _deviation_of_tree(
                network, trial, expected, with_prefix=with_prefix
            )
        else:
            deviation = _deviation_of_forks(network, mode, trial, expected)
    except torch.OutOfMemoryError:
        raise
    except _CALL_ERRORS as error:
        return f"it fails ({_said(error)})"
    effect = _deviation(expected[:1], expected[1:])
    if deviation <= _tolerance(network, effect):
        return None
    rounding = _rounding(network, trial, expected)
    if deviation <= _tolerance(network, effect, rounding):
        return None
    return f"its results differ by {deviation:.2g} nats"


def _tolerance(network: Network, effect: float, rounding: float = 0.0) -> float:
    """How far two right ways may differ.

    Parameters
    ----------
    network : Network
    effect : float
        What another prompt changes.
    rounding : float, default=0.0
        How far the plain way is from what it is in float32. Two ways may err by as much
        in opposite directions.
    """
    most, share = _TOLERANCES.get(network.dtype, _COARSE)
    return max(_MIN_TOLERANCE, min(max(most, 2 * rounding), share * effect))


def _rounding(
    network: Network, trial: _Trial, expected: Sequence[EdgeLogprobs]
) -> float:
    """Return how far plain passes are from the same passes in float32."""
    if network.dtype.itemsize >= 4:
        return 0.0
    try:
        with widened(network.model):
            exact = trial.expected(network)
    except _CALL_ERRORS:
        return 0.0  # it mixes types in ways of its own
    return _deviation(expected, exact)


def _deviation(read: Sequence[EdgeLogprobs], expected: Sequence[EdgeLogprobs]) -> float:
    """Greatest difference where something was expected; infinite for NaN."""
    worst = 0.0
    for values, right in zip(read, expected, strict=True):
        known = ~np.isnan(right)
        difference = np.abs(values[known] - right[known])
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0)))
    return worst


def _deviation_of_tree(
    network: Network,
    trial: _Trial,
    expected: Sequence[EdgeLogprobs],
    *,
    with_prefix: bool,
) -> float:
    """One pass for all nodes; root first, then others, after a prefix if wanted."""
    prompts, tree, _ = trial
    inner = tuple(tree.inner_nodes.tolist())
    asked = [Asked(prompt, tree, inner) for prompt in prompts]
    at_once, _ = new_prompts(network, asked, prefix=None, keep=False)
    worst = _deviation(at_once, expected)
    start = prefix_slots(network, prompts[0][:3]) if with_prefix else None
    roots = [Asked(prompt, tree, (0,)) for prompt in prompts]
    _, slots = new_prompts(network, roots, prefix=start, keep=True)
    assert slots is not None
    places = [(slots, row) for row in range(len(prompts))]
    # Half of the first text's nodes, so that a third pass builds on a second, and
    # beside them all of the other's: the third then stands after empty slots.
    half = inner[: (len(inner) + 1) // 2]
    first = [Asked(prompts[0], tree, half), *asked[1:]]
    _, later = follow_up(network, first, places)
    if later is not None:
        moved = {row.prompt: (later, at) for at, row in enumerate(later.rows)}
        places = [
            moved.get(prompt, place)
            for prompt, place in zip(prompts, places, strict=True)
        ]
    answers, _ = follow_up(network, asked, places)
    return max(worst, _deviation(answers, expected))


def _deviation_of_forks(
    network: Network, mode: ReadMode, trial: _Trial, expected: Sequence[EdgeLogprobs]
) -> float:
    """Root and half of the nodes first, then the others; after a prefix if wanted."""
    together = mode == "forked"
    inner = tuple(trial.tree.inner_nodes.tolist())
    half = inner[: (len(inner) + 1) // 2]

    def asked(nodes: tuple[int, ...]) -> list[Asked]:
        return [Asked(prompt, trial.tree, nodes) for prompt in trial.prompts]

    def most(_: int) -> int:
        return len(inner)

    _, forks = new_forks(
        network,
        asked(half),
        prefixes=[None] * len(trial.prompts),
        together=together,
        max_rows=most,
    )
    answers = follow_forks(
        network, asked(inner), forks, together=together, max_rows=most
    )
    worst = _deviation(answers, expected)
    if together:
        text = trial.prompts[0]
        start = prefix_fork(network, text[: len(text) // 2])
        answers, _ = new_forks(
            network, asked(inner)[:1], prefixes=[start], together=True, max_rows=most
        )
        worst = max(worst, _deviation(answers, expected[:1]))
    return worst


def _sample(network: Network) -> tuple[list[tuple[int, ...]], TokenTree]:
    """Two prompts of 5 and 9 tokens that share three, and a tree of three levels."""
    if network.vocab_size < 12:
        return [(0, 1, 0, 0, 1), (0, 1, 0, 1, 1, 1)], TokenTree(
            {(0, 1, 0), (0, 1, 1), (0, 0), (1,)}
        )
    rng = np.random.default_rng(0)
    ids = rng.choice(network.vocab_size, 12, replace=False).tolist()
    a, b, c, d = (ids[i] for i in (0, 3, 6, 9))
    tree = TokenTree({(a, b, c), (a, b, d), (a, c), (b, a, c, d), (b, a, a), (c,)})
    return [tuple(ids[:5]), (*ids[:3], *ids[6:12])], tree


@contextmanager
def widened(model: nn.Module) -> Iterator[None]:
    """Let a model of narrower weights compute in float32 while the context lasts.

    The weights of one module at a time are made wide, and only while it computes: a
    second copy of a large model would not fit.
    """
    narrow: dict[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def widen(module: nn.Module, *_: Any) -> None:
        with torch.inference_mode(mode=False), torch.no_grad():
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            for tensor in own:
                if tensor.is_floating_point() and tensor.itemsize < 4:
                    narrow.setdefault(module, []).append((tensor, tensor.data))
                    tensor.data = tensor.data.float()

    def restore(module: nn.Module, *_: Any) -> None:
        for tensor, data in reversed(narrow.pop(module, [])):
            tensor.data = data

    hooks = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(widen))
        hooks.append(module.register_forward_hook(restore, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in list(narrow):
            restore(module)
