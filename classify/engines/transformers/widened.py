"""A network that computes in float32 for a moment, to see what its rounding does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["widened"]


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
