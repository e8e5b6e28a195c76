"""Activation functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply


@op("Relu", 6, 13, 14)
def relu(node: Node) -> Apply:
    """max(x, 0)."""
    return apply(nn.ReLU(), node.x)


@op("LeakyRelu", 6, 16)
def leaky_relu(node: Node) -> Apply:
    """x above 0, alpha x below."""
    return apply(nn.LeakyReLU(node.get("alpha", 0.01)), node.x)


@op("PRelu", 7, 9, 16)
def prelu(node: Node) -> Apply:
    """x above 0, slope x below; the slope is broadcast from the last axis."""
    slope = node.input(1)
    if slope.constant and node.x.rank >= 2:
        weight = slope.probes[0]
        sizes = [1] * (node.x.rank - weight.dim()) + list(weight.shape)
        if all(size == 1 for axis, size in enumerate(sizes) if axis != 1) and sizes[1] in (1, node.channels()):
            layer = nn.PReLU(sizes[1])
            layer.weight = nn.Parameter(weight.reshape(-1).float(), requires_grad=False)
            return apply(layer, node.x)
    return apply(_prelu, node.x, slope)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.relu(x) - slope * torch.relu(-x)


@op("Elu", 6, 22)
def elu(node: Node) -> Apply:
    """x above 0, alpha (e^x - 1) below."""
    return apply(nn.ELU(node.get("alpha", 1.0)), node.x)


@op("Selu", 6, 22)
def selu(node: Node) -> Apply:
    """gamma x above 0, gamma alpha (e^x - 1) below."""
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return apply(_scaled_elu, node.x, alpha, gamma)


def _scaled_elu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * functional.elu(x, alpha)


@op("Celu", 12, 28)
def celu(node: Node) -> Apply:
    """x above 0, alpha (e^(x / alpha) - 1) below."""
    return apply(nn.CELU(node.get("alpha", 1.0)), node.x)


@op("Gelu", 20)
def gelu(node: Node) -> Apply:
    """x Phi(x), or its approximation by tanh."""
    return apply(nn.GELU(approximate=node.get("approximate", "none")), node.x)


@op("Sigmoid", 6, 13)
def sigmoid(node: Node) -> Apply:
    """1 / (1 + e^-x)."""
    return apply(nn.Sigmoid(), node.x)


@op("HardSigmoid", 6, 22)
def hard_sigmoid(node: Node) -> Apply:
    """min(max(alpha x + beta, 0), 1)."""
    return apply(_hard_sigmoid, node.x, node.get("alpha", 0.2), node.get("beta", 0.5))


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


@op("HardSwish", 14, 22)
def hard_swish(node: Node) -> Apply:
    """x min(max(x / 6 + 1 / 2, 0), 1)."""
    return apply(nn.Hardswish(), node.x)


@op("Swish", 24)
def swish(node: Node) -> Apply:
    """x sigmoid(alpha x)."""
    alpha = node.get("alpha", 1.0)
    return apply(nn.SiLU(), node.x) if alpha == 1 else apply(_swish, node.x, alpha)


def _swish(x: Tensor, alpha: float) -> Tensor:
    return functional.silu(alpha * x) / alpha if alpha else 0.5 * x


@op("Mish", 18, 22)
def mish(node: Node) -> Apply:
    """x tanh(log(1 + e^x))."""
    return apply(nn.Mish(), node.x)


@op("Tanh", 6, 13)
def tanh(node: Node) -> Apply:
    """The hyperbolic tangent."""
    return apply(nn.Tanh(), node.x)


@op("Softplus", 1, 22)
def softplus(node: Node) -> Apply:
    """log(1 + e^x)."""
    return apply(nn.Softplus(), node.x)


@op("Softsign", 1, 22)
def softsign(node: Node) -> Apply:
    """x / (1 + |x|)."""
    return apply(nn.Softsign(), node.x)


@op("ThresholdedRelu", 10, 22)
def thresholded_relu(node: Node) -> Apply:
    """x above alpha, 0 up to it."""
    return apply(nn.Threshold(node.get("alpha", 1.0), 0.0), node.x)


@op("Shrink", 9)
def shrink(node: Node) -> Apply:
    """x moved by bias towards 0 where |x| > lambd, 0 elsewhere."""
    return apply(_shrink, node.x, node.get("lambd", 0.5), node.get("bias", 0.0))


def _shrink(x: Tensor, limit: float, bias: float) -> Tensor:
    zero = torch.zeros_like(x)
    return torch.where(x > limit, x - bias, zero) + torch.where(x < -limit, x + bias, zero)


@op("Clip", 6)
def clip_attributes(node: Node) -> Apply:
    """The bounds are attributes."""
    return _clamp(node, node.get("min"), node.get("max"))


@op("Clip", 11, 12, 13)
def clip(node: Node) -> Apply:
    """The bounds are inputs, and may be missing."""
    low, high = node.optional(1, "lower bound"), node.optional(2, "upper bound")
    return _clamp(node, None if low is None else low.item(), None if high is None else high.item())


def _clamp(node: Node, low: float | None, high: float | None) -> Apply:
    if low is None and high is None:
        return apply(nn.Identity(), node.x)
    if (low, high) == (0, 6):
        return apply(nn.ReLU6(), node.x)
    return apply(torch.clamp, node.x, low, high)


@op("Softmax", 13)
@op("LogSoftmax", 13)
def softmax(node: Node) -> Apply:
    """Over one axis."""
    axis = node.axis(node.get("axis", -1))
    return apply(nn.Softmax(axis) if node.op == "Softmax" else nn.LogSoftmax(axis), node.x)


@op("Softmax", 1, 11)
@op("LogSoftmax", 1, 11)
def softmax_flattened(node: Node) -> Apply:
    """Over the axis and all behind it."""
    axis = node.axis(node.get("axis", 1))
    layer = nn.Softmax(-1) if node.op == "Softmax" else nn.LogSoftmax(-1)
    if axis == node.x.rank - 1:
        return apply(layer, node.x)
    sizes = tuple(node.x.shape[axis:])
    if not all(size.constant for size in sizes):
        node.refuse("it normalises over the images")
    return apply(_flattened, node.x, axis, [s.fixed for s in sizes], node.op == "LogSoftmax")


def _flattened(x: Tensor, axis: int, sizes: list[int], logarithm: bool) -> Tensor:
    rows = x.flatten(axis)
    found = functional.log_softmax(rows, -1) if logarithm else functional.softmax(rows, -1)
    return found.unflatten(-1, sizes)


@op("Hardmax", 13)
def hardmax(node: Node) -> Apply:
    """1 at the largest entry along one axis, 0 elsewhere."""
    return apply(_hardmax, node.x, node.axis(node.get("axis", -1)))


def _hardmax(x: Tensor, axis: int) -> Tensor:
    largest = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, largest, 1.0)


@op("Dropout", 7, 10)
def dropout(node: Node) -> list[Apply]:
    """Nothing, when a network is used."""
    node.get("ratio")
    return _kept(node)


@op("Dropout", 12, 13, 22)
def dropout_inputs(node: Node) -> list[Apply]:
    """Likewise; the mode is an input."""
    node.get("seed")
    training = node.optional(2, "training mode")
    if training is not None and bool(training.any()):
        node.refuse("it drops entries at random, in training mode", "Export the network after eval().")
    return _kept(node)


def _kept(node: Node) -> list[Apply]:
    mask = [apply(_ones, node.x)] if node.outputs > 1 else []
    return [apply(nn.Identity(), node.x), *mask]


def _ones(x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool)


@op("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(node: Node) -> object:
    """The tensor itself."""
    return node.x
