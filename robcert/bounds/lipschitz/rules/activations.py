"""Elementwise functions: one constant for all norms, the largest |slope|.

An elementwise function with |g'| <= c moves every entry at most c times as far as its input, in every l_p.
The constants that are not obvious are suprema of a derivative, rounded up in the last digit given; the tests
find each of them again on a grid.
"""

from __future__ import annotations

import math

from robcert.bounds.lipschitz.call import LipschitzCall, scalar
from robcert.bounds.lipschitz.entrywise import applied
from robcert.bounds.lipschitz.patterns import Absolute, Half, Mirror, Negation, Slope, Squares
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.values import ONE, Value, copied, same
from robcert.math.rounding import up

SLOPES: dict[str, tuple[float, float]] = {
    "relu": (0.0, 1.0),
    "relu6": (0.0, 1.0),
    "hardtanh": (0.0, 1.0),
    "tanh": (0.0, 1.0),
    "atan": (0.0, 1.0),
    "asinh": (0.0, 1.0),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
    "sigmoid": (0.0, 0.25),
    "log_sigmoid": (0.0, 1.0),
    "softshrink": (0.0, 1.0),
    # Phi(x) + x phi(x), largest at x = sqrt 2, smallest at -sqrt 2 (one minus the largest).
    "gelu": (-0.1289041452, 1.1289041452),
    # The tanh form 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) is a little steeper.
    "gelu_tanh": (-0.1289930687, 1.1289930687),
    # sigmoid(x) (1 + x (1 - sigmoid(x))), largest near 2.3994.
    "silu": (-0.0998393202, 1.0998393202),
    # tanh(sp) + x sigmoid(x) (1 - tanh(sp)^2) with sp = log(1 + e^x), largest near 1.4906.
    "mish": (-0.1125261225, 1.0884981613),
    # x (x + 3) / 6 on [-3, 3]: (2 x + 3) / 6.
    "hardswish": (-0.5, 1.5),
    # 1 / 6, and the float32 number that torch multiplies by.
    "hardsigmoid": (0.0, 0.1666666717),
    "erf": (0.0, 1.1283791671),
    # scale and scale alpha of Klambauer et al. 2017.
    "selu": (0.0, 1.7580993409),
}
"""The smallest and the largest slope of each function, rounded outwards."""


@rule(*(name for name in SLOPES if name not in ("relu", "gelu", "gelu_tanh", "hardtanh")))
def fixed(call: LipschitzCall) -> Value:
    """A function whose parameters, if any, do not change how steep it is: the table."""
    call.ignore("lambd")  # where softshrink bends
    return elementwise(call, call.x, *SLOPES[call.op], row=True)


@rule("relu")
def relu(call: LipschitzCall) -> Value:
    """max(x, 0): 1. Remembers which half of a two-sided ReLU it is."""
    return positive_part(call, call.x)


@rule("gelu")
def gelu(call: LipschitzCall) -> Value:
    """x Phi(x), or its approximation by tanh."""
    name = "gelu_tanh" if call["approximate"] == "tanh" else "gelu"
    return elementwise(call, call.x, *SLOPES[name], row=True)


@rule("hardtanh", "clamp", "clip", "clamp_min", "clamp_max")
def clamp(call: LipschitzCall) -> Value:
    """Clipping to constants: 1; clipping below at 0 is ReLU."""
    x = call.x
    low, high = call.get("min", call.get("min_val")), call.get("max", call.get("max_val"))
    if math.prod(call.shape) != x.size:
        return clipped_copies(call, x)
    squares = x.find(Squares)
    if squares is not None and high is None:
        # sqrt(max(q, c)) = max(sqrt q, sqrt c) moves no more than sqrt q.
        return call.nonlinear(x, ONE, Squares(squares.of, squares.rows, squares.columns, squares.roots,
                                              (*squares.nodes, call.node.name)))  # fmt: skip
    if isinstance(low, int | float) and low == 0 and high is None:
        return positive_part(call, x)
    return elementwise(call, x, 0.0, 1.0, row=True)


@rule("leaky_relu", "rrelu")
def leaky_relu(call: LipschitzCall) -> Value:
    """Slope 1 above 0, a constant below (RReLU in eval: the mean of its range)."""
    if call.op == "rrelu":
        if call["training"]:
            call.refuse("it is random in training mode", "LipschitzCall eval() on the network.")
        slope = (float(call["lower"]) + float(call["upper"])) / 2
    else:
        slope = float(call["negative_slope"])
    below = math.copysign(scalar(slope), slope)
    return elementwise(call, call.x, min(1.0, below), max(1.0, below), row=True)


@rule("prelu")
def prelu(call: LipschitzCall) -> Value:
    """max(1, |slope|), the largest over all channels."""
    slopes = call.constant("weight").double()
    return elementwise(call, call.x, min(1.0, float(slopes.min())), max(1.0, float(slopes.max())), row=True)


@rule("elu")
def elu(call: LipschitzCall) -> Value:
    """scale x above 0, scale alpha (e^(s x) - 1) below: slopes up to scale and scale alpha s."""
    alpha, scale, inner = (float(call[n]) for n in ("alpha", "scale", "input_scale"))
    if inner < 0:
        return call.infinite("it grows exponentially below 0")
    below = up(scalar(scale) * scalar(alpha) * scalar(inner), 4) if {scale, inner} != {1.0} else scalar(alpha)
    ends = (0.0, math.copysign(scalar(scale), scale), math.copysign(below, scale * alpha))
    return elementwise(call, call.x, min(ends), max(ends), row=True)


@rule("celu")
def celu(call: LipschitzCall) -> Value:
    """x above 0, alpha (e^(x / alpha) - 1) below: slopes in [0, 1] for alpha > 0."""
    if float(call["alpha"]) <= 0:
        return call.infinite("it grows exponentially below 0")
    return elementwise(call, call.x, 0.0, 1.0, row=True)


@rule("softplus")
def softplus(call: LipschitzCall) -> Value:
    """log(1 + e^(beta x)) / beta: slopes in [0, 1].

    Above the threshold torch returns x itself. At the default (beta x > 20) the step of 2.1e-9 / beta is
    far below the spacing of float32 numbers there, and the executed function has none; at a lower threshold
    it jumps.
    """
    if float(call["beta"]) == 0:
        return call.infinite("its beta is 0")
    if float(call["threshold"]) < 20:
        return call.infinite(f"it jumps where beta x reaches its threshold {float(call['threshold']):g}")
    return elementwise(call, call.x, 0.0, 1.0, row=True)


@rule("threshold")
def threshold(call: LipschitzCall) -> Value:
    """x above the threshold, a constant below: 1 if the two meet."""
    if float(call["threshold"]) != float(call["value"]):
        return call.infinite("it jumps at its threshold")
    if float(call["value"]) == 0:
        return positive_part(call, call.x)
    return elementwise(call, call.x, 0.0, 1.0, row=True)


@rule("abs")
def absolute(call: LipschitzCall) -> Value:
    """|x|: 1."""
    x = call.x
    squares = x.find(Squares)
    if squares is not None:  # not negative already
        return call.moved(x)
    return elementwise(call, x, -1.0, 1.0, Absolute(x), row=True)


def clipped_copies(call: LipschitzCall, x: Value) -> Value:
    """Clipping to tensors of a larger shape: every entry is copied first."""
    gain = copied(math.prod(call.shape) // max(1, x.size))
    return call.nonlinear(x, gain, row=call.op)


def positive_part(call: LipschitzCall, x: Value) -> Value:
    """ReLU, however it was written."""
    squares, mirror, negation = x.find(Squares), x.find(Mirror), x.find(Negation)
    if squares is not None:
        return call.moved(x)
    if mirror is not None:  # relu of x and -x, concatenated: two-sided ReLU
        base = call.domain.latest(mirror.of)
        call.domain.rows.pop(x.node, None)
        call.row(base, "two-sided relu", ONE)
        return call.domain.value(call, [(base, ONE)], base.bounds, part=base.part)
    half = Half(negation.of, False) if negation else Half(x, True)
    return elementwise(call, x, 0.0, 1.0, half, row=True)


def elementwise(call: LipschitzCall, x: Value, low: float, high: float, *patterns: object, row: bool = False) -> Value:
    """A function with slopes between ``low`` and ``high``."""
    if x.size != math.prod(call.shape):
        call.refuse("it copies its input", "Write the copies with expand.")
    gain = same(max(abs(low), abs(high)))
    patterns = (slope(x, low, high), *applied(x, low, high), *patterns)
    return call.nonlinear(x, gain, *patterns, row=call.op if row else None)


def slope(x: Value, low: float, high: float) -> Slope:
    """The slopes of a function of ``x``, in terms of what ``x`` itself is an elementwise function of."""
    before = x.find(Slope)
    if before is None:
        return Slope(x, low, high)
    ends = [low * before.low, low * before.high, high * before.low, high * before.high]
    exact = {low, high, before.low, before.high} <= {0.0, 1.0, -1.0}
    return Slope(before.of, *((min(ends), max(ends)) if exact else (_below(min(ends)), _above(max(ends)))))


def _below(value: float) -> float:
    return math.nextafter(value, -math.inf) if value else 0.0


def _above(value: float) -> float:
    return math.nextafter(value, math.inf) if value else 0.0
