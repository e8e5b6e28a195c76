"""Functions of one entry: their slopes, and where their convexity changes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.special import ndtr

from robcert.bounds.linear.activations import Activation, PiecewiseLinear, Shape
from robcert.bounds.linear.rules import LinearCall, Ref, relaxation
from robcert.bounds.linear.step import SLACK, Step

_INVERSE = 1 / math.sqrt(2 * math.pi)


def _gelu_slope(t: Tensor) -> Tensor:
    return ndtr(t) + t * torch.exp(-t * t / 2) * _INVERSE


def _gelu_tanh_slope(t: Tensor) -> Tensor:
    factor = math.sqrt(2 / math.pi)
    squashed = torch.tanh(factor * (t + 0.044715 * t**3))
    return (1 + squashed) / 2 + t / 2 * (1 - squashed * squashed) * factor * (1 + 3 * 0.044715 * t * t)


def _silu_slope(t: Tensor) -> Tensor:
    s = torch.sigmoid(t)
    return s * (1 + t * (1 - s))


def _mish_slope(t: Tensor) -> Tensor:
    squashed = torch.tanh(functional.softplus(t, threshold=200.0))
    return squashed + t * torch.sigmoid(t) * (1 - squashed * squashed)


def _log_sigmoid(t: Tensor) -> Tensor:
    return functional.logsigmoid(t)


def _selu_slope(t: Tensor) -> Tensor:
    return torch.where(t > 0, 1.0507009873554805, 1.0507009873554805 * 1.6732632423543772 * torch.exp(t.clamp_max(0)))


SHAPES: dict[str, Shape] = {
    "sigmoid": Shape(torch.sigmoid, lambda t: torch.sigmoid(t) * torch.sigmoid(-t), (0.0,), (1, -1)),
    "tanh": Shape(torch.tanh, lambda t: 1 - torch.tanh(t).square(), (0.0,), (1, -1)),
    "atan": Shape(torch.atan, lambda t: 1 / (1 + t * t), (0.0,), (1, -1)),
    "asinh": Shape(torch.asinh, lambda t: (1 + t * t).rsqrt(), (0.0,), (1, -1)),
    "erf": Shape(torch.erf, lambda t: 2 / math.sqrt(math.pi) * torch.exp(-t * t), (0.0,), (1, -1)),
    # The second derivative of x Phi(x) is phi(x) (2 - x^2).
    "gelu": Shape(lambda t: t * ndtr(t), _gelu_slope, (-math.sqrt(2), math.sqrt(2)), (-1, 1, -1)),
    "gelu_tanh": Shape(
        lambda t: functional.gelu(t, approximate="tanh"),
        _gelu_tanh_slope,
        (-1.4185040087908284, 1.4185040087908284),
        (-1, 1, -1),
    ),
    "silu": Shape(functional.silu, _silu_slope, (-2.3993572805154677, 2.3993572805154677), (-1, 1, -1)),
    "mish": Shape(functional.mish, _mish_slope, (-2.2563763963607931, 1.4905711794854285), (-1, 1, -1)),
    "log_sigmoid": Shape(_log_sigmoid, lambda t: torch.sigmoid(-t), (), (-1,)),
    "hardswish": Shape(functional.hardswish, lambda t: (2 * t + 3) / 6, (-3.0, 3.0), (0, 1, 0)),
    "hardsigmoid": Shape(functional.hardsigmoid, lambda t: torch.full_like(t, 1 / 6), (-3.0, 3.0), (0, 0, 0)),
    "abs": Shape(torch.abs, torch.sign, (0.0,), (0, 0)),
    "selu": Shape(functional.selu, _selu_slope, (0.0,), (1, 0)),
}
"""Name of an op without parameters -> its shape. Knots of smooth functions are zeros of the second derivative."""


@relaxation(*(name for name in SHAPES if name not in ("gelu", "gelu_tanh")))
def fixed(call: LinearCall) -> Step:
    """The table."""
    return Activation(*call.head, SHAPES[call.op])


@relaxation("gelu")
def gelu(call: LinearCall) -> Step:
    """x Phi(x), or its approximation by tanh."""
    return Activation(*call.head, SHAPES["gelu_tanh" if call["approximate"] == "tanh" else "gelu"])


@relaxation("relu")
def relu(call: LinearCall) -> Step:
    """max(x, 0)."""
    return PiecewiseLinear(*call.head, torch.zeros((), dtype=torch.float64))


@relaxation("relu6")
def relu6(call: LinearCall) -> Step:
    """Between 0 and 6."""
    return Activation(*call.head, clamped(0.0, 6.0))


@relaxation("hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "threshold")
def clamp(call: LinearCall) -> Step:
    """Clipping to constants; clipping below at 0 is ReLU."""
    if call.op == "threshold":
        if float(call["threshold"]) != float(call["value"]):
            call.refuse("it jumps at its threshold")
        low, high = float(call["value"]), math.inf
    else:
        ends = [call.get("min", call.get("min_val")), call.get("max", call.get("max_val"))]
        if any(isinstance(end, Ref) or (isinstance(end, Tensor) and end.numel() != 1) for end in ends):
            call.refuse("its bounds are tensors")
        low = -math.inf if ends[0] is None else float(ends[0])
        high = math.inf if ends[1] is None else float(ends[1])
    if low == 0 and high == math.inf:
        return relu(call)
    return Activation(*call.head, clamped(low, high))


@relaxation("leaky_relu", "rrelu", "prelu")
def leaky_relu(call: LinearCall) -> Step:
    """Slope 1 above 0, another one below; RReLU in eval takes the mean of its range."""
    if call.op == "prelu":
        weight = call.constant("weight").double()
        wide = (-1, *([1] * (len(call.shape) - 1))) if weight.numel() > 1 else ()
        return PiecewiseLinear(*call.head, weight.reshape(wide))
    if call.op == "rrelu":
        if call["training"]:
            call.refuse("it is random in training mode")
        below = (float(call["lower"]) + float(call["upper"])) / 2
    else:
        below = float(call["negative_slope"])
    return PiecewiseLinear(*call.head, torch.tensor(below, dtype=torch.float64))


@relaxation("elu", "celu")
def elu(call: LinearCall) -> Step:
    """scale x above 0, scale alpha (e^(s x) - 1) below."""
    alpha = float(call["alpha"])
    scale, inner = float(call.get("scale") or 1.0), float(call.get("input_scale") or 1.0)
    if call.op == "celu":
        inner = 1 / alpha
    if inner < 0 or scale < 0:
        call.refuse("it grows exponentially below 0")

    def value(t: Tensor) -> Tensor:
        return scale * torch.where(t > 0, t, alpha * torch.expm1(inner * t.clamp_max(0)))

    def slope(t: Tensor) -> Tensor:
        below = scale * alpha * inner * torch.exp(inner * t.clamp_max(0))
        return torch.where(t > 0, scale, below)

    return Activation(*call.head, Shape(value, slope, (0.0,), (1 if alpha > 0 else -1, 0)))


@relaxation("softplus")
def softplus(call: LinearCall) -> Step:
    """log(1 + e^(beta x)) / beta; torch returns x above the threshold, which is off by e^-threshold / beta."""
    beta, threshold = float(call["beta"]), float(call["threshold"])
    if beta <= 0:
        call.refuse("its beta is not positive")
    rough = SLACK * max(1.0, 1 / beta) + 1.01 * math.exp(-threshold) / beta
    shape = Shape(lambda t: functional.softplus(t, beta, 700.0), lambda t: torch.sigmoid(beta * t), (), (1,), rough)
    return Activation(*call.head, shape)


@relaxation("softshrink")
def softshrink(call: LinearCall) -> Step:
    """x moved towards 0 by lambda."""
    edge = float(call["lambd"])
    shape = Shape(lambda t: functional.softshrink(t, edge), torch.zeros_like, (-edge, edge), (0, 0, 0))
    return Activation(*call.head, shape)


def clamped(low: float, high: float) -> Shape:
    """Clipping."""
    knots = tuple(k for k in (low, high) if math.isfinite(k))

    def slope(t: Tensor) -> Tensor:
        return ((t > low) & (t < high)).double()

    return Shape(lambda t: t.clamp(low, high), slope, knots, (0,) * (len(knots) + 1))


__all__: list[Any] = ["SHAPES", "clamped"]
