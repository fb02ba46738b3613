"""The last product of a network in float32, whatever its weights are.

In bfloat16 a logit between 16 and 32 is a multiple of an eighth. What it is rounded to
there is all that tells one text from another, so that many texts would get the same
probability. The factors are what they are; only their sum of products is kept whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["float32_head"]

_HALVES = (torch.bfloat16, torch.float16)
# Rows of a weight that are made float32 at a time: 64 MB at a width of 4,096.
_N_ROWS = 4096


@contextmanager
def float32_head(model: Any) -> Iterator[None]:
    """Compute logits in float32 meanwhile, where the head is a layer of 16 bits.

    Only meanwhile: the model may be somebody else's. A head that is quantized, or of a
    class of its own, stays as it is.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.dtype not in _HALVES:
        yield
        return
    head.forward = partial(_linear, head)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del head.forward


def _linear(head: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """X Wᵀ + b in float32, without a copy of the whole weight."""
    if hidden.dtype != head.weight.dtype:
        return functional.linear(hidden, head.weight, head.bias)
    rows = hidden.reshape(-1, hidden.shape[-1])
    if hidden.is_cuda:
        logits = torch.mm(rows, head.weight.t(), out_dtype=torch.float32)
    else:
        rows = rows.float()
        logits = rows.new_empty((len(rows), len(head.weight)))
        for start in range(0, len(head.weight), _N_ROWS):
            some = slice(start, start + _N_ROWS)
            logits[:, some] = rows @ head.weight[some].float().t()
    if head.bias is not None:
        logits += head.bias.float()
    return logits.reshape(*hidden.shape[:-1], -1)
