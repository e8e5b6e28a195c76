"""Convolutions."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.ops.windows import padded, windows
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply

_CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def _weights(node: Node) -> tuple[Tensor, Tensor | None, int]:
    weight, bias = node.tensor(1, "weight"), node.optional(2, "bias")
    axes = node.x.rank - 2
    if weight.dim() != node.x.rank or axes not in _CONVS:
        node.refuse(f"its input has {axes} spatial axes and its weight {weight.dim() - 2}")
    group = int(node.get("group", 1))
    if group < 1:
        node.refuse(f"its group is {group}")
    return weight, bias, group


def filled(layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer made without weights, with these."""
    layer.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.float().contiguous(), requires_grad=False)
    return layer


@op("Conv", 1, 11, 22)
def convolution(node: Node) -> Apply:
    """A convolution with any padding, stride, dilation and groups."""
    weight, bias, group = _weights(node)
    found = windows(node, tuple(weight.shape[2:]))
    if node.channels() != weight.shape[1] * group or weight.shape[0] % group:
        node.refuse(
            f"its weight is {tuple(weight.shape)} with {group} groups, and its input has {node.channels()} channels"
        )
    layer = _CONVS[len(found.kernel)](
        weight.shape[1] * group,
        weight.shape[0],
        found.kernel,  # pyright: ignore[reportArgumentType]
        found.stride,  # pyright: ignore[reportArgumentType]
        found.low if found.symmetric else 0,  # pyright: ignore[reportArgumentType]
        found.dilation,  # pyright: ignore[reportArgumentType]
        group,
        bias is not None,
        device="meta",
    )
    made = filled(layer, weight, bias)
    return apply(made if found.symmetric else padded(found, 0.0, made), node.x)


@op("ConvTranspose", 1, 11, 22)
def transposed_convolution(node: Node) -> Apply:
    """The transposed convolution; its output is cropped where the padding of two sides differs."""
    weight, bias, group = _weights(node)
    axes = node.x.rank - 2
    extra = tuple(int(p) for p in node.get("output_padding") or [0] * axes)
    wanted = node.get("output_shape")
    automatic = node.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        node.attributes["auto_pad"] = "NOTSET"
    found = windows(node, tuple(weight.shape[2:]))
    low, high = list(found.low), list(found.high)
    if wanted or automatic in ("SAME_UPPER", "SAME_LOWER"):
        sizes = [int(s) for s in wanted][-axes:] if wanted else []
        for a, n in enumerate(node.spatial()):
            size = sizes[a] if sizes else n * found.stride[a]
            total = found.stride[a] * (n - 1) + extra[a] + (found.kernel[a] - 1) * found.dilation[a] + 1 - size
            if total < 0:
                node.refuse(f"its output_shape asks for {-total} more entries than it computes")
            small, large = total // 2, total - total // 2
            low[a], high[a] = (large, small) if automatic == "SAME_LOWER" or automatic == "NOTSET" else (small, large)
    if node.channels() != weight.shape[0] or weight.shape[0] % group:
        node.refuse(f"its weight is {tuple(weight.shape)}, and its input has {node.channels()} channels")
    symmetric = low == high and all(e < max(s, d) for e, s, d in zip(extra, found.stride, found.dilation, strict=True))
    layer = _TRANSPOSED[axes](
        weight.shape[0],
        weight.shape[1] * group,
        found.kernel,  # pyright: ignore[reportArgumentType]
        found.stride,  # pyright: ignore[reportArgumentType]
        tuple(low) if symmetric else 0,  # pyright: ignore[reportArgumentType]
        extra if symmetric else 0,  # pyright: ignore[reportArgumentType]
        group,
        bias is not None,
        found.dilation,  # pyright: ignore[reportArgumentType]
        device="meta",
    )
    made = filled(layer, weight, bias)
    if symmetric:
        return apply(made, node.x)
    if any(extra[a] > high[a] for a in range(axes)):
        node.refuse(f"its output_padding {extra} is larger than its padding")
    crop = [size for a in reversed(range(axes)) for size in (-low[a], extra[a] - high[a])]
    kinds = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}
    return apply(nn.Sequential(made, kinds[axes](tuple(crop), 0.0)), node.x)  # pyright: ignore[reportArgumentType]
