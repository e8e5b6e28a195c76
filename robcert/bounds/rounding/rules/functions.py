"""Rounding of elementwise functions, norms and softmax.

Assumed of the vectorised kernels: exp, expm1, log, log1p, tanh, erf, atan, asinh, sin and cos are within 4 ulp, a
relative error of 8 u, in the whole range; every other step is one rounding. What follows for a compound function is
stated per entry as u (a |x| + b), derived in docs/soundness.md and held against the kernels by a test.
"""

from __future__ import annotations

import math

from robcert.bounds.lipschitz.values import Value, product, root, total
from robcert.bounds.rounding.rules import Local, local
from robcert.graph.export import IMAGES
from robcert.math.rounding import up

FUNCTIONS: dict[str, tuple[float, float]] = {
    "tanh": (8, 0),
    "atan": (8, 0),
    "asinh": (16, 0),
    "sin": (8, 0),
    "cos": (0, 8),
    "erf": (10, 0),
    "sigmoid": (0, 12),
    "hardsigmoid": (0, 4),
    "silu": (14, 0),
    "gelu": (16, 0),
    "gelu_tanh": (16, 0),
    "mish": (32, 0),
    "hardswish": (8, 0),
    "log_sigmoid": (4, 20),
    "softshrink": (2, 2),
    "selu": (5, 44),
}
"""Name -> (a, b): an entry is off by at most u (a |x| + b)."""

BOUNDED: dict[str, float] = {
    **{"sigmoid": 1.0, "hardsigmoid": 1.0, "tanh": 1.0, "erf": 1.0, "sin": 1.0, "cos": 1.0, "softmax": 1.0},
    **{"relu6": 6.0, "_softmax": 1.0, "atan": 2.0},
}
"""No entry of the result is larger."""


@local(*(name for name in FUNCTIONS if name not in ("gelu", "gelu_tanh", "softshrink")))
def fixed(at: Local) -> float:
    """The table."""
    return entrywise(at, *FUNCTIONS[at.call.op])


@local("gelu")
def gelu(at: Local) -> float:
    """With erf, or with tanh."""
    return entrywise(at, *FUNCTIONS["gelu_tanh" if at.call["approximate"] == "tanh" else "gelu"])


@local("softshrink")
def softshrink(at: Local) -> float:
    """The difference x - lambda, and lambda as a float32 number."""
    return entrywise(at, 2.0, 2.0 * abs(float(at.call["lambd"])))


@local("leaky_relu", "rrelu", "prelu")
def leaky_relu(at: Local) -> float:
    """The slope as a float32 number (RReLU: the mean of two), and the product."""
    at.call.ignore(*at.call.given)  # the slope is in the constant
    return at.rounded(4, at.moved)


@local("elu", "celu")
def elu(at: Local) -> float:
    """X scale above 0; below, scale alpha (exp(s x) - 1), whose exp may be rounded before the 1 is subtracted.

    The argument s x is off by 3 u |s x|, and |t| e^t <= 1/2 for t < 0: exp is off by 10 u at most.
    """
    alpha = abs(float(at.call["alpha"]))
    scale = abs(float(at.call.get("scale", 1.0) or 1.0))
    return entrywise(at, 4 * scale, 24 * scale * alpha)


@local("softplus")
def softplus(at: Local) -> float:
    """log1p(exp(beta x)) / beta, and x itself above the threshold: off by e^-threshold / beta there."""
    beta, threshold = abs(float(at.call["beta"])), float(at.call["threshold"])
    if not threshold <= 80:  # exp overflows
        return math.inf
    jump = product(root(at.entries), 1.01 * math.exp(-threshold) / beta)
    return total(entrywise(at, 16.0, 24.0 / beta), jump)


def entrywise(at: Local, a: float, b: float) -> float:
    """An error of u (a |x| + b) for every entry, and underflow."""
    constant = product(root(at.entries), up(at.unit.u * b + 64 * at.unit.tiny * (1 + a + b), 4))
    return total(product(up(at.unit.u * a), at.read), constant)


@local("linalg_vector_norm", "norm")
def vector_norm(at: Local) -> float:
    """A root of a sum of squares: relative error gamma, and the root of what underflows; or a sum; or a maximum."""
    order = at.call.get("ord", at.call.get("p"))
    at.call.ignore("dim", "keepdim", "dtype")  # the shape of the result says how many entries
    order = 2.0 if order is None else float(order)
    if math.isinf(order):
        return 0.0
    count = at.call.operands[0].size // max(1, math.prod(at.call.shape)) + 8
    if at.read > 2.0**60:  # a square overflows
        return math.inf
    lost = root(up(8 * count * at.unit.tiny, 4))
    return total(product(at.unit.gamma(count), at.out), product(root(at.entries), lost))


def _soft(at: Local) -> tuple[float, float]:
    """Return the error of the logarithm of a computed sum of exponentials, from x - max on; and log n.

    x_i - max is off by u times at most 2 ||x^||, so exp of it by a factor within exp(2 u ||x^||) (1 + 8 u), and a
    sum of n of them by gamma_n more.
    """
    x = at.call.operands[0]
    at.call.ignore("dtype", "half_to_float", "keepdim")  # float32 or float64
    dim = at.call.get("dim")
    if isinstance(dim, int):
        n = x.shape[dim]
    else:
        n = math.prod(x.shape[int(d)] for d in dim) if dim is not None else x.size // IMAGES
    factor = math.expm1(min(700.0, 2 * at.unit.u * at.read * 1.01)) if math.isfinite(at.read) else math.inf
    return up(2 * total(factor, at.unit.gamma(n + 16)), 8), math.log(max(2, n)) * 1.01


@local("softmax", "_softmax")
def softmax(at: Local) -> float:
    """Every entry has the relative errors of its exponential, of the sum and of a division; no row is longer than 1."""
    x: Value = at.call.operands[0]
    factor, _ = _soft(at)
    rows = max(1.0, at.entries / x.shape[int(at.call["dim"])])
    return total(product(root(rows), 5 * factor), product(root(at.entries), 64 * at.entries * at.unit.tiny))


@local("log_softmax", "_log_softmax", "logsumexp")
def log_softmax(at: Local) -> float:
    """x - max - log(sum): the logarithm is off by `_soft` and 8 u of its value, the sums by 4 u of their terms."""
    factor, logarithm = _soft(at)
    entry = up(factor + at.unit.gamma(16) * (logarithm + 3 * at.read), 8)
    return product(root(at.entries), total(entry, 64 * at.entries * at.unit.tiny))
