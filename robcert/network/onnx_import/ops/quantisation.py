"""Rounding to a few integers, as quantised networks do: executed as it is, with the slope of the identity."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, Value, apply, known

_RANGES = {torch.int8: (-128, 127), torch.uint8: (0, 255), torch.int16: (-32768, 32767)}
NOTICE = (
    "the model is quantised: what it computes is rounded to a few values. Gradients go through the rounding as if it "
    "were not there (straight-through)."
)


@op("QuantizeLinear", 10, 13, 19, 21, 23, 24, 25, 28)
def quantise(node: Node) -> Apply:
    """round(x / scale) + zero point, clipped to the type; kept as floats until it is scaled back."""
    scale, zero, axis = _scale(node)
    for name in ("saturate", "output_dtype", "precision"):
        if node.get(name, 0) not in (0, 1 if name == "saturate" else 0):
            node.refuse(f"its {name} is set")
    kind = torch.uint8 if zero is None else zero.dtype
    if kind not in _RANGES:
        node.refuse(f"its zero point is {kind}")
    if node.x.computed:
        node.say(NOTICE)
    low, high = _RANGES[kind]

    def rounded(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        plain = x / scale  # rounded to even; the gradient is that of clipping
        return torch.clamp(plain + (torch.round(plain) - plain).detach() + zero, low, high)

    return apply(rounded, node.x, _along(node, scale, axis), _along(node, zero, axis))


@op("DequantizeLinear", 10, 13, 19, 21, 23, 24, 25, 28)
def dequantise(node: Node) -> Apply:
    """(x - zero point) scale."""
    scale, zero, axis = _scale(node)
    if node.get("output_dtype", 0):
        node.refuse("its output_dtype is set")

    def scaled(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return ((x if x.is_floating_point() else x.float()) - zero) * scale

    return apply(scaled, node.x, _along(node, scale, axis), _along(node, zero, axis))


def _scale(node: Node) -> tuple[Tensor, Tensor | None, int]:
    scale, zero = node.tensor(1, "scale"), node.optional(2, "zero point")
    if node.get("block_size", 0):
        node.refuse("it is quantised in blocks")
    given = int(node.get("axis", 1))
    axis = node.axis(given) if scale.numel() > 1 else 0
    if scale.numel() > 1 and (scale.dim() != 1 or node.x.shape[axis].fixed != scale.numel()):
        node.refuse("its scale does not fit its input")
    return scale, zero, axis


def _along(node: Node, tensor: Tensor | None, axis: int) -> Value:
    """Return one number for all, or one an entry of an axis, in a shape that broadcasts."""
    given = torch.zeros(()) if tensor is None else tensor.float()
    shape = () if given.numel() == 1 else (-1, *[1] * (node.x.rank - axis - 1))
    return known(node.name, given.reshape(shape))
