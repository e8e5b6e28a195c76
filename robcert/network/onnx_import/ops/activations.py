"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.network.onnx_import.network import filled
from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op, op_table
from robcert.network.onnx_import.values import Apply, apply

LAYERS: dict[str, tuple[tuple[int, ...], Callable[[Node], nn.Module]]] = {
    # max(x, 0)
    "Relu": ((6, 13, 14), lambda node: nn.ReLU()),
    # x above 0, alpha x below
    "LeakyRelu": ((6, 16), lambda node: nn.LeakyReLU(node.get("alpha", 0.01))),
    # x above 0, alpha (e^x - 1) below
    "Elu": ((6, 22), lambda node: nn.ELU(node.get("alpha", 1.0))),
    # x above 0, alpha (e^(x / alpha) - 1) below
    "Celu": ((12, 28), lambda node: nn.CELU(node.get("alpha", 1.0))),
    # x Phi(x), or its approximation by tanh
    "Gelu": ((20,), lambda node: nn.GELU(approximate=node.get("approximate", "none"))),
    # 1 / (1 + e^-x)
    "Sigmoid": ((6, 13), lambda node: nn.Sigmoid()),
    # x min(max(x / 6 + 1 / 2, 0), 1)
    "HardSwish": ((14, 22), lambda node: nn.Hardswish()),
    # x tanh(log(1 + e^x))
    "Mish": ((18, 22), lambda node: nn.Mish()),
    # the hyperbolic tangent
    "Tanh": ((6, 13), lambda node: nn.Tanh()),
    # log(1 + e^x)
    "Softplus": ((1, 22), lambda node: nn.Softplus()),
    # x / (1 + |x|)
    "Softsign": ((1, 22), lambda node: nn.Softsign()),
    # x above alpha, 0 up to it
    "ThresholdedRelu": ((10, 22), lambda node: nn.Threshold(node.get("alpha", 1.0), 0.0)),
}
"""Ops that are one layer of torch."""

op_table(LAYERS, lambda layer, node: apply(layer(node), node.x))


@op("PRelu", 7, 9, 16)
def prelu(node: Node) -> Apply:
    """x above 0, slope x below; the slope is broadcast from the last axis."""
    slope = node.input(1)
    if slope.constant and node.x.rank >= 2:
        weight = slope.probes[0]
        sizes = [1] * (node.x.rank - weight.dim()) + list(weight.shape)
        if all(size == 1 for axis, size in enumerate(sizes) if axis != 1) and sizes[1] in (1, node.channels()):
            return apply(filled(nn.PReLU(sizes[1]), weight=weight.reshape(-1)), node.x)
    return apply(lambda x, slope: torch.relu(x) - slope * torch.relu(-x), node.x, slope)


@op("Selu", 6, 22)
def selu(node: Node) -> Apply:
    """gamma x above 0, gamma alpha (e^x - 1) below."""
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return apply(lambda x: gamma * functional.elu(x, alpha), node.x)


@op("HardSigmoid", 6, 22)
def hard_sigmoid(node: Node) -> Apply:
    """min(max(alpha x + beta, 0), 1)."""
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    return apply(lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0), node.x)


@op("Swish", 24)
def swish(node: Node) -> Apply:
    """x sigmoid(alpha x)."""
    alpha = node.get("alpha", 1.0)
    if alpha == 1:
        return apply(nn.SiLU(), node.x)
    return apply(lambda x: functional.silu(alpha * x) / alpha if alpha else 0.5 * x, node.x)


@op("Shrink", 9)
def shrink(node: Node) -> Apply:
    """x moved by bias towards 0 where |x| > lambd, 0 elsewhere."""
    return apply(_shrink, node.x, node.get("lambd", 0.5), node.get("bias", 0.0))


def _shrink(x: Tensor, limit: float, bias: float) -> Tensor:
    zero = torch.zeros_like(x)
    return torch.where(x > limit, x - bias, zero) + torch.where(x < -limit, x + bias, zero)


@op("Clip", 6)
def clip_attributes(node: Node) -> Apply:
    """Between bounds that are attributes."""
    return _clamp(node, node.get("min"), node.get("max"))


@op("Clip", 11, 12, 13)
def clip(node: Node) -> Apply:
    """Between bounds that are inputs, and may be missing."""
    low, high = node.optional(1, "lower bound"), node.optional(2, "upper bound")
    return _clamp(node, None if low is None else low.item(), None if high is None else high.item())


def _clamp(node: Node, low: float | None, high: float | None) -> Apply:
    if low is None and high is None:
        return apply(nn.Identity(), node.x)
    return apply(nn.ReLU6(), node.x) if (low, high) == (0, 6) else apply(torch.clamp, node.x, low, high)


@op("Softmax", 13)
@op("LogSoftmax", 13)
def softmax(node: Node) -> Apply:
    """Over one axis."""
    return apply(_softmax(node, node.axis(node.get("axis", -1))), node.x)


@op("Softmax", 1, 11)
@op("LogSoftmax", 1, 11)
def softmax_flattened(node: Node) -> Apply:
    """Over the axis and all behind it."""
    axis = node.axis(node.get("axis", 1))
    if axis == node.x.rank - 1:
        return apply(_softmax(node, -1), node.x)
    sizes = node.x.shape[axis:]
    if not all(size.constant for size in sizes):
        node.refuse("it normalises over the images")
    unflatten = nn.Unflatten(-1, tuple(size.fixed for size in sizes))
    return apply(nn.Sequential(nn.Flatten(axis), _softmax(node, -1), unflatten), node.x)


def _softmax(node: Node, axis: int) -> nn.Module:
    return nn.Softmax(axis) if node.op == "Softmax" else nn.LogSoftmax(axis)


@op("Hardmax", 13)
def hardmax(node: Node) -> Apply:
    """1 at the largest entry along one axis, 0 elsewhere."""
    axis = node.axis(node.get("axis", -1))
    return apply(lambda x: torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0), node.x)


@op("Dropout", 7, 10, 12, 13, 22)
def dropout(node: Node) -> list[Apply]:
    """Nothing, when a network is used; since 12 the mode is an input."""
    node.ignore("ratio", "seed")
    training = node.optional(2, "training mode")
    if training is not None and bool(training.any()):
        node.refuse("it drops entries at random, in training mode", "Export the network after eval().")
    mask = [apply(torch.ones_like, node.x, dtype=torch.bool)] if node.outputs > 1 else []
    return [apply(nn.Identity(), node.x), *mask]


@op("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(node: Node) -> object:
    """The tensor itself."""
    return node.x
