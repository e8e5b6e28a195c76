"""Rounding of functions of one entry, entry by entry: u (a |x| + b), with the numbers of docs/soundness.md, 6.4."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robcert.bounds.linear.activations import PiecewiseLinear
from robcert.bounds.linear.rules import LinearCall
from robcert.bounds.linear.step import Interval, Rounding, Step
from robcert.bounds.rounding.entrywise import WIDE, entrywise, largest, rounded
from robcert.bounds.rounding.rules import FLOAT32
from robcert.bounds.rounding.rules.functions import FUNCTIONS


@entrywise("tanh", "atan", "asinh", "erf", "sigmoid", "hardsigmoid", "silu", "gelu", "mish", "hardswish",
           "log_sigmoid", "selu")  # fmt: skip
def fixed(call: LinearCall, step: Step) -> Rounding:
    """The table."""
    tanh = call.op == "gelu" and call.given["approximate"] == "tanh"
    return within(*FUNCTIONS["gelu_tanh" if tanh else call.op])


@entrywise("softshrink")
def softshrink(call: LinearCall, step: Step) -> Rounding:
    """The difference x - lambda, and lambda as a float32 number."""
    return within(2.0, 2.0 * abs(float(call.given["lambd"])))


@entrywise("leaky_relu", "rrelu", "prelu")
def leaky_relu(call: LinearCall, step: Step) -> Rounding:
    """The slope as a float32 number (RReLU: the mean of two), and the product; above 0 nothing is rounded."""
    assert isinstance(step, PiecewiseLinear)
    below = step.below.abs()
    steepest = float(below.max())
    return Rounding(lambda given, _: rounded(4, (-given[0].lower).clamp_min(0) * below, steepest))


@entrywise("elu", "celu")
def elu(call: LinearCall, step: Step) -> Rounding:
    """Scale x above 0; below, scale alpha (exp(s x) - 1), whose exp may be rounded before the 1 is subtracted."""
    alpha = abs(float(call.given["alpha"]))
    scale = abs(float(call.given.get("scale") or 1.0))
    return within(4 * scale, 24 * scale * alpha)


@entrywise("softplus")
def softplus(call: LinearCall, step: Step) -> Rounding:
    """log1p(exp(beta x)) / beta, and x itself above the threshold: off by e^-threshold / beta there."""
    beta, threshold = abs(float(call.given["beta"])), float(call.given["threshold"])
    jump = 1.01 * math.exp(-threshold) / beta if threshold <= 80 else math.inf  # above, exp overflows
    return within(16.0, 24.0 / beta, jump)


def within(a: float, b: float, more: float = 0.0) -> Rounding:
    """Return the rounding of entries that are off by u (a |x| + b), what underflows, and ``more``."""
    constant = FLOAT32.u * b + 64 * FLOAT32.tiny * (1 + a + b) + more
    return Rounding(lambda given, _: (FLOAT32.u * a * largest(given[0]) + constant) * WIDE)


def shifted_logits(before: Rounding | None) -> Rounding:
    """Return the rounding of logits that log-softmax moves, all by the same amount, behind them.

    An executed entry is x_i - max - log(sum), off by no more than the relative error of the sum, and 16 roundings of
    the logarithm and of 3 max|x|.

    Args:
        before: of the logits themselves.
    """

    def bound(given: list[Interval], result: Interval) -> Tensor:
        first = torch.zeros_like(result.lower) if before is None else before.bound(given, result)
        count, size = result.lower.shape[-1], result.largest + first.flatten(1).amax(1)
        factor = 2 * (torch.expm1((4 * FLOAT32.u * size).clamp_max(700.0)) + FLOAT32.gamma(count + 16))
        logarithm = math.log(max(2, count)) * 1.01
        own = factor + FLOAT32.gamma(16) * (logarithm + 3 * size) + 64 * count * FLOAT32.tiny
        own = (own * WIDE).view(-1, *([1] * (result.lower.dim() - 1)))
        return first + own

    return Rounding(bound)
