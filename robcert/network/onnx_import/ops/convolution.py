"""Convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from robcert.network.onnx_import.network import filled
from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.ops.windows import of_axes, padded, windows
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply


def _weights(node: Node) -> tuple[Tensor, Tensor | None, int]:
    weight, bias = node.tensor(1, "weight"), node.optional(2, "bias")
    if weight.dim() != node.x.rank:
        node.refuse(f"its input has {node.x.rank - 2} spatial axes and its weight {weight.dim() - 2}")
    group = int(node.get("group", 1))
    if group < 1:
        node.refuse(f"its group is {group}")
    return weight, bias, group


@op("Conv", 1, 11, 22)
def convolution(node: Node) -> Apply:
    """A convolution with any padding, stride, dilation and groups."""
    weight, bias, group = _weights(node)
    found = windows(node, tuple(weight.shape[2:]))
    inputs, outputs = weight.shape[1] * group, weight.shape[0]
    if node.channels() != inputs or outputs % group:
        node.refuse(
            f"its weight is {tuple(weight.shape)} with {group} groups, and its input has {node.channels()} channels"
        )
    form = (found.kernel, found.stride, found.low if found.symmetric else 0, found.dilation, group, bias is not None)
    layer = of_axes(nn, "Conv{}d", len(found.kernel))(inputs, outputs, *form, device="meta")
    made = filled(layer, weight=weight, bias=bias)
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
            low[a], high[a] = (large, small) if automatic in ("SAME_LOWER", "NOTSET") else (small, large)
    if node.channels() != weight.shape[0] or weight.shape[0] % group:
        node.refuse(f"its weight is {tuple(weight.shape)}, and its input has {node.channels()} channels")
    symmetric = low == high and all(e < max(s, d) for e, s, d in zip(extra, found.stride, found.dilation, strict=True))
    pads = (tuple(low), extra) if symmetric else (0, 0)
    form = (found.kernel, found.stride, *pads, group, bias is not None, found.dilation)
    layer = of_axes(nn, "ConvTranspose{}d", axes)(weight.shape[0], weight.shape[1] * group, *form, device="meta")
    made = filled(layer, weight=weight, bias=bias)
    if symmetric:
        return apply(made, node.x)
    if any(extra[a] > high[a] for a in range(axes)):
        node.refuse(f"its output_padding {extra} is larger than its padding")
    crop = tuple(size for a in reversed(range(axes)) for size in (-low[a], extra[a] - high[a]))
    return apply(nn.Sequential(made, of_axes(nn, "ConstantPad{}d", axes)(crop, 0.0)), node.x)
