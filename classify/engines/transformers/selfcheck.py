"""Which way of reading is right for a model: found out, not assumed.

A mask that a model ignores or misreads gives plausible numbers that are wrong. So the
fast ways are compared with plain forward passes, at load on a few tokens, and again
when texts first reach a length at which something could change (twice the length seen
right, a sliding window's edge).
"""

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from classify.engines.transformers.network import Network
from classify.engines.transformers.plain import cached_read, uncached_read
from classify.engines.transformers.tree_pass import (
    Asked,
    follow_up,
    new_prompts,
    prefix_slots,
)
from classify.errors import ModelLoadError
from classify.tracking import EdgeLogprobs, TokenTree

__all__ = ["ReadMode", "choose_mode", "deviation_of_tree", "tolerance_of"]

ReadMode = Literal["tree", "cached", "uncached"]

_logger = logging.getLogger(__name__)

# Greatest difference of a log-probability that rounding explains.
_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.06}
_COARSE = 0.5  # bfloat16 and below

# What a network raises when it is called in a way that it does not know.
CALL_ERRORS = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    AssertionError,
)


def tolerance_of(network: Network) -> float:
    """Return how far two right ways may differ in the network's number format."""
    return _TOLERANCES.get(network.dtype, _COARSE)


def _deviation(
    read: Sequence[EdgeLogprobs], expected: Sequence[EdgeLogprobs]
) -> float:
    """Greatest difference where something was expected; infinite for NaN."""
    worst = 0.0
    for values, right in zip(read, expected, strict=True):
        known = ~np.isnan(right)
        difference = np.abs(values[known] - right[known])
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0)))
    return worst


def deviation_of_tree(
    network: Network,
    prompts: Sequence[tuple[int, ...]],
    tree: TokenTree,
    *,
    with_prefix: bool = True,
) -> float:
    """Compare tree passes with plain passes, on prompts that share three tokens.

    One pass for all nodes; root first and the others after it; and, unless told not
    to, both again behind a shared prefix.
    """
    inner = tuple(tree.inner_nodes.tolist())
    asked = [Asked(prompt, tree, inner) for prompt in prompts]
    roots = [Asked(prompt, tree, (0,)) for prompt in prompts]
    expected = [uncached_read(network, one.prompt, tree, inner) for one in asked]
    starts = [None, prefix_slots(network, prompts[0][:3])] if with_prefix else [None]
    worst = 0.0
    for start in starts:
        at_once, _ = new_prompts(network, asked, prefix=start, keep=False)
        worst = max(worst, _deviation(at_once, expected))
        _, slots = new_prompts(network, roots, prefix=start, keep=True)
        assert slots is not None
        # Half of the nodes first, so that a third pass builds on a second.
        places = [(slots, row) for row in range(len(prompts))]
        first = [Asked(one.prompt, tree, inner[: len(inner) // 2]) for one in asked]
        _, later = follow_up(network, first, places)
        if later is not None:
            places = [(later, row) for row in range(len(prompts))]
        answers, _ = follow_up(network, asked, places)
        worst = max(worst, _deviation(answers, expected))
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


def _check_causal(network: Network, prompt: tuple[int, ...]) -> None:
    """Raise unless what follows a token leaves its logits alone."""
    alone, _ = network(np.array([prompt[:-3]]), keep=1)
    followed, _ = network(np.array([prompt]), keep=4)
    difference = torch.log_softmax(alone[0, 0].float(), -1) - torch.log_softmax(
        followed[0, 0].float(), -1
    )
    if not float(difference.abs().max()) <= tolerance_of(network):
        raise ModelLoadError(
            f"{type(network.model).__name__} is not a causal language model: what it "
            "predicts at a token changes with the tokens after it (by "
            f"{float(difference.abs().max()):.2g} nats). Choose a model trained to "
            "predict the next token."
        )


def choose_mode(network: Network) -> ReadMode:
    """Return the fastest way of reading that agrees with plain forward passes."""
    prompts, tree = _sample(network)
    _check_causal(network, prompts[1])
    inner = tuple(tree.inner_nodes.tolist())
    name = type(network.model).__name__
    known_layers = {"full_attention", "sliding_attention"}
    reason = ""
    if network.layer_types <= known_layers:
        try:
            deviation = deviation_of_tree(network, prompts, tree)
            if deviation <= tolerance_of(network):
                return "tree"
            reason = f"its results differ by {deviation:.2g} nats"
        except CALL_ERRORS as error:
            reason = f"it fails ({type(error).__name__}: {_first_line(error)})"
    else:
        odd = sorted(network.layer_types - known_layers)
        reason = f"it has layers of kind {', '.join(odd)}"
    expected = [uncached_read(network, prompt, tree, inner) for prompt in prompts]
    try:
        answers = [cached_read(network, prompt, tree, inner) for prompt in prompts]
        if _deviation(answers, expected) <= tolerance_of(network):
            _logger.warning(
                "%s does not take a tree mask: %s. Label paths are read one by one "
                "on copies of its cache: right, but slower.",
                name,
                reason,
            )
            return "cached"
    except CALL_ERRORS as error:
        _logger.debug("No cache for %s: %s", name, error)
    _logger.warning(
        "%s takes neither a tree mask (%s) nor a copied cache. Every label path is "
        "read with a forward pass of its own: right, but much slower.",
        name,
        reason,
    )
    return "uncached"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:120]
