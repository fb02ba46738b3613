"""Weights laid out for the CPU's vector units.

PyTorch multiplies float32 matrices on a CPU with MKL, which lays the weights out again
at every call. oneDNN takes weights laid out once: here 1.1–1.4 times as fast at
hundreds of tokens, and twice at a few (follow-ups, generation). Same arithmetic.
"""

import logging
import os
from typing import Any, NamedTuple, Self

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Packed", "PackedHead", "can_pack", "pack_weights"]

_logger = logging.getLogger(__name__)

# Packed copies are kept in addition to the originals, and must not fill the memory.
_MAX_MEMORY_SHARE = 0.25
_MAX_BYTES_OF_UNKNOWN = 2 << 30
_N_PARTS = 4


class Packed(NamedTuple):
    """x Wᵀ + b with a weight that is laid out once, and what may follow in one go.

    All take x of shape (T, in_features) and return (T, out_features).
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def of(
        cls, *layers: Any, scale: torch.Tensor | None = None, factor: float = 1.0
    ) -> Self:
        """Pack linear layers side by side: (x * scale) Wᵀ * factor + b * factor."""
        weight = torch.cat([layer.weight.detach() for layer in layers])
        if scale is not None:
            weight = weight * scale.detach()
        bias = None
        if any(layer.bias is not None for layer in layers):
            bias = factor * torch.cat(
                [
                    layer.weight.new_zeros(layer.out_features)
                    if layer.bias is None
                    else layer.bias.detach()
                    for layer in layers
                ]
            )
        return cls(_pack(weight * factor), bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x Wᵀ + b."""
        return _multiply(x, *self, "none", [], "")

    def swish(self, x: torch.Tensor) -> torch.Tensor:
        """y / (1 + exp(-y)) of y = x Wᵀ + b."""
        return _multiply(x, *self, "swish", [], "")

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """x Wᵀ + b + other."""
        return _combine(x, other, *self, "add")

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(x Wᵀ + b) * other."""
        return _combine(x, other, *self, "mul")


class PackedHead(NamedTuple):
    """(x * scale) Wᵀ + b with many outputs, added up from parts of the inputs.

    oneDNN adds the products of an output one after the other, and the rounding of that
    is as much as that of all layers before: in parts, it is half as much.
    """

    parts: tuple[Packed, ...]

    @classmethod
    def of(cls, layer: Any, *, scale: torch.Tensor) -> Self:
        """Pack a linear layer; a bias is added with the first part."""
        parts = (layer.weight.detach() * scale.detach()).chunk(_N_PARTS, dim=1)
        bias = None if layer.bias is None else layer.bias.detach()
        biases = (bias, *[None] * (len(parts) - 1))
        return cls(
            tuple(
                Packed(_pack(part.contiguous()), each)
                for part, each in zip(parts, biases, strict=True)
            )
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (T, in_features) → (T, out_features)."""
        inputs = [each.contiguous() for each in x.chunk(len(self.parts), dim=1)]
        result = self.parts[0](inputs[0])
        for part, some in zip(self.parts[1:], inputs[1:], strict=True):
            result = part.plus(some, result)
        return result


# Resolved at the first call: not every build of torch has them.
def _multiply(*arguments: Any) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(*arguments)
    return result


def _combine(*arguments: Any) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(*arguments)
    return result


def _pack(weight: torch.Tensor) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


class _PackedLinear(nn.Linear):
    """A linear layer that multiplies with a packed copy of its weight."""

    packed: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """x Wᵀ + b, shape (..., in_features) → (..., out_features)."""
        return _multiply(input, self.packed, self.bias, "none", [], "")


def pack_weights(model: nn.Module) -> int:
    """Pack the linear layers of a float32 model on the CPU; return how many.

    For a model that only this package uses: packed copies do not follow later changes
    of the weights.
    """
    if not can_pack(model):
        return 0
    layers = _linear_layers(model)
    for layer in layers:
        packed = _pack(layer.weight.detach())
        layer.__class__ = _PackedLinear
        layer.packed = packed
    return len(layers)


def can_pack(model: nn.Module) -> bool:
    """Whether a model's linear layers can be packed, and their copies are small."""
    layers = _linear_layers(model)
    n_bytes = sum(layer.weight.nbytes for layer in layers)
    return bool(layers) and n_bytes <= _most_bytes() and _works(layers[0])


def _most_bytes() -> float:
    try:
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return _MAX_BYTES_OF_UNKNOWN
    return _MAX_MEMORY_SHARE * n_bytes


def _linear_layers(model: nn.Module) -> list[Any]:
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
    ]


def _works(layer: Any) -> bool:
    """Try it on one layer: the operators are not part of torch's public interface."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    trial = torch.linspace(-1.0, 1.0, 3 * layer.in_features).reshape(3, -1)
    expected = functional.linear(trial, layer.weight, layer.bias).detach()
    try:
        packed = Packed.of(layer)
        pairs = [
            (packed(trial), expected),
            (packed.swish(trial), functional.silu(expected)),
            (packed.plus(trial, expected), expected + expected),
            (packed.times(trial, expected), expected * expected),
        ]
    except (AttributeError, RuntimeError, TypeError) as error:
        _logger.debug("Weights stay unpacked: %s", error)
        return False
    return all(torch.allclose(*pair, rtol=1e-4, atol=1e-4) for pair in pairs)
