"""Whether a way of reading is right for a model: compared, not assumed.

A mask that a model ignores or misreads gives plausible numbers that are wrong. So the
faster ways are compared with plain forward passes over `prompt + path`.
"""

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
from classify.engines.transformers.widened import widened
from classify.errors import ModelLoadError
from classify.tracking import EdgeLogprobs, TokenTree

__all__ = ["ReadMode", "check_causal", "fault_at_length", "fault_on_sample"]

ReadMode = Literal["tree", "cached", "uncached"]

# Greatest difference of a log-probability that rounding explains, and the share of
# what a different prompt changes that it may be: nearly uniform predictions hide a
# wrong mask in small numbers.
_TOLERANCES = {
    torch.float64: (1e-6, 1e-4),
    torch.float32: (1e-3, 0.02),
    torch.float16: (0.06, 0.1),
}
_COARSE = (0.5, 0.25)  # bfloat16 and below
_LEAST_TOLERANCE = 1e-5

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
    prompt = _sample(network)[0][1]
    logits = [network(np.array([prompt[:-1]]), keep=1)[0][0, 0]]
    # The same token with another behind it, and that other token.
    logits += network(np.array([prompt]), keep=2)[0][0]
    alone, followed, other = (torch.log_softmax(row.float(), -1) for row in logits)
    worst = float((alone - followed).abs().max())
    if not worst <= _tolerance(network, float((alone - other).abs().max())):
        raise ModelLoadError(
            f"{type(network.model).__name__} is not a causal language model: what it "
            f"predicts at a token changes with the tokens after it (by {worst:.2g} "
            "nats). Choose a model trained to predict the next token."
        )


def fault_on_sample(network: Network, mode: ReadMode) -> str | None:
    """Try a way of reading on a few tokens; return what is wrong with it, or None."""
    prompts, tree = _sample(network)
    return _fault(network, mode, prompts, tree, with_prefix=True)


def fault_at_length(
    network: Network, mode: ReadMode, token_ids: tuple[int, ...], length: int
) -> str | None:
    """Try a way of reading on a text of `length` tokens made of these ids.

    The last of them is a node of a tree; the prompt has one less.
    """
    n_prompt = max(4, length - 1)
    text = _repeated(token_ids, n_prompt)
    if network(np.array([text]), keep=1)[0].isnan().any():
        # A text that the model cannot compute shows nothing.
        text = _repeated(_sample(network)[0][1], n_prompt)
    a, b, c = ((text[0] + i) % network.vocab_size for i in range(3))
    # A shorter neighbour: batches mix lengths.
    prompts = [text, text[: max(3, length // 3)]]
    tree = TokenTree({(a, b), (a, c), (b,)})
    return _fault(network, mode, prompts, tree, with_prefix=False)


def _repeated(token_ids: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (token_ids * (length // len(token_ids) + 1))[:length]


def _fault(
    network: Network,
    mode: ReadMode,
    prompts: Sequence[tuple[int, ...]],
    tree: TokenTree,
    *,
    with_prefix: bool,
) -> str | None:
    nodes = tuple(tree.inner_nodes.tolist())
    expected = [uncached_read(network, prompt, tree, nodes) for prompt in prompts]
    try:
        if mode == "tree":
            deviation = _deviation_of_tree(
                network, prompts, tree, expected, with_prefix=with_prefix
            )
        else:
            deviation = _deviation(
                [cached_read(network, prompt, tree, nodes) for prompt in prompts],
                expected,
            )
    except torch.OutOfMemoryError:
        raise
    except _CALL_ERRORS as error:
        first_line = (str(error).splitlines() or [""])[0][:120]
        return f"it fails ({type(error).__name__}: {first_line})"
    effect = _deviation(expected[:1], expected[1:])
    if deviation <= _tolerance(network, effect):
        return None
    rounding = _rounding(network, prompts, tree, expected)
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
    return max(_LEAST_TOLERANCE, min(max(most, 2 * rounding), share * effect))


def _rounding(
    network: Network,
    prompts: Sequence[tuple[int, ...]],
    tree: TokenTree,
    expected: Sequence[EdgeLogprobs],
) -> float:
    """Return how far plain passes are from the same passes in float32."""
    if network.dtype.itemsize >= 4:
        return 0.0
    nodes = tuple(tree.inner_nodes.tolist())
    try:
        with widened(network.model):
            exact = [uncached_read(network, prompt, tree, nodes) for prompt in prompts]
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
    prompts: Sequence[tuple[int, ...]],
    tree: TokenTree,
    expected: Sequence[EdgeLogprobs],
    *,
    with_prefix: bool,
) -> float:
    """One pass for all nodes; root first, then others; both behind a prefix too."""
    inner = tuple(tree.inner_nodes.tolist())
    asked = [Asked(prompt, tree, inner) for prompt in prompts]
    starts = [None, prefix_slots(network, prompts[0][:3])] if with_prefix else [None]
    worst = 0.0
    for start in starts:
        at_once, _ = new_prompts(network, asked, prefix=start, keep=False)
        worst = max(worst, _deviation(at_once, expected))
        roots = [Asked(prompt, tree, (0,)) for prompt in prompts]
        _, slots = new_prompts(network, roots, prefix=start, keep=True)
        assert slots is not None
        places = [(slots, row) for row in range(len(prompts))]
        # Half of the nodes first, so that a third pass builds on a second.
        half = inner[: (len(inner) + 1) // 2]
        first = [Asked(prompt, tree, half) for prompt in prompts]
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
