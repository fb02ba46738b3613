"""The columns' kernel gives what torch's operations give.

It needs a GPU, or Triton's interpreter: ``TRITON_INTERPRET=1 pytest …``.
"""

import os

import numpy as np
import pytest
import torch

from classify.engines.vllm.columns import Layout
from classify.engines.vllm.plain_columns import Sources, plain_columns
from classify.engines.vllm.tables import RequestSlots, Trees
from classify.engines.vllm.wire import Wanted, encode_tree
from classify.tracking import TokenTree

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and not INTERPRETED:
    pytest.skip("needs a GPU, or TRITON_INTERPRET=1", allow_module_level=True)
VOCAB = 9001  # two blocks, and a part of a third

TREE = TokenTree([(5, 7), (5, 8), (6,), (9000, 1, 2)])
WANTED = [
    Wanted((3, 1, 9000), top=2),
    None,
    Wanted(tuple(range(0, 9000, 7))),
    Wanted(tree=encode_tree(TREE), children=True),
    Wanted((VOCAB, 4, 10**6)),
    Wanted(top=5),
    Wanted(tree=encode_tree(TREE), node=1, children=True, top=1),
    Wanted((8,)),
]


def sources(wanted, *, dtype, drafts=0, seed=0):
    """What columns are made of, for slots 0, 2, 4 …; the last without a marker."""
    slots, trees = RequestSlots(DEVICE), Trees(DEVICE)
    for at, one in enumerate(wanted):
        if one is not None:
            start = 0 if one.tree is None else trees.add(2 * at, one.tree)
            width = 0 if one.tree is None else trees.width(2 * at)
            marker = at < len(wanted) - 1
            slots.add(2 * at, one, start + one.node, tree_width=width, marker=marker)
    slots.upload()
    trees.upload()
    n_rows = np.full(len(wanted), drafts + 1)
    layout = Layout(slots, 2 * np.arange(len(wanted)), n_rows)
    draws = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(int(n_rows.sum()), VOCAB, generator=draws)
    logits[0, :4500] = float("-inf")
    logits = logits.to(dtype).to(DEVICE)
    sampled = torch.randint(VOCAB, (len(logits),), generator=draws)
    sampled[-1] = 99_999  # behind the accepted tokens
    top = None
    if layout.n_top:
        top = torch.topk(logits[layout.rows], layout.n_top).indices
    return Sources(
        logits=logits,
        sampled=sampled.to(DEVICE),
        top=top,
        table=layout.table,
        nodes=slots.nodes[layout.slots],
        ids=slots.ids,
        tree=trees.on_device,
        n_columns=layout.n_columns,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("drafts", [0, 2])
@pytest.mark.parametrize(
    "wanted",
    [WANTED, WANTED[2:4], [WANTED[3], WANTED[5]], [WANTED[4]], [WANTED[5]]],
    ids=["all", "ids and tree", "tree and top", "outside", "top"],
)
def test_the_kernel_gives_what_torch_gives(wanted, drafts, dtype):
    from classify.engines.vllm.columns_kernel import fused_columns

    given = sources(wanted, drafts=drafts, dtype=dtype)
    ids, values, ranks = fused_columns(given)
    expected_ids, expected_values, expected_ranks = plain_columns(given)
    assert torch.equal(ids, expected_ids)
    assert torch.equal(ranks, expected_ranks)
    torch.testing.assert_close(
        values, expected_values, rtol=0, atol=1e-5, equal_nan=True
    )
