"""Rounding of dot products: layers with weights, averages and roots of sums of squares."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robcert.bounds.lipschitz.affine import row_norms
from robcert.bounds.lipschitz.call import LipschitzCall
from robcert.bounds.lipschitz.operators import Conv, ConvTranspose, Dense, LinearOperator, Separable
from robcert.bounds.lipschitz.patterns import Squares
from robcert.bounds.lipschitz.rules import rules as graph_rules
from robcert.bounds.lipschitz.values import Value, product, root, total
from robcert.bounds.rounding.rules import Layer, Local, local
from robcert.bounds.rounding.rules.elementary import length
from robcert.math.rounding import gamma, up

_SQUARE = 2.0**120
"""Beyond this size a float32 square, or a sum of them, may overflow."""


class _Captured(Exception):
    def __init__(self, op: LinearOperator) -> None:
        self.op = op


@dataclass(frozen=True)
class _Capture(LipschitzCall):
    """The same op, only to find its linear operator."""

    def operator(self, x: Value, op: LinearOperator, *, label: str | None = None, roots: float | None = None) -> Value:
        raise _Captured(op)


def operator_of(call: LipschitzCall) -> LinearOperator:
    """The linear operator of a layer, as its rule in `robcert.bounds.lipschitz.rules` builds it."""
    try:
        graph_rules.get(call.op)(_Capture(call.node, call.op, call.layer, call.given, call.read, domain=call.domain))
    except _Captured as found:
        return found.op
    return call.refuse("it is no linear layer")


def layer_of(at: Local) -> Layer:
    """Looked up, or computed on the first call."""
    name = at.call.node.name
    if name not in at.linear:
        at.linear[name] = _layer(at)
    at.call.ignore(*at.call.given)  # the operator and its bias are in the layer, once and for all passes
    return at.linear[name]


def _layer(at: Local) -> Layer:
    op = operator_of(at.call)
    matrix = "conv" not in at.call.op
    given = at.call.get("bias") if at.call.op != "addmm" else at.call["self"]
    bias = length(at, given, channels=not matrix)
    row_bias = float(given.double().abs().max()) if isinstance(given, Tensor) and given.numel() else 0.0
    row = math.inf
    if isinstance(op, Dense):
        terms, weight = op.matrix.shape[1], op.matrix
        row = float(row_norms(weight, 0.0)["l2"].max())
    elif isinstance(op, Conv):
        terms, weight = math.prod(op.weight.shape[1:]), op.weight
    elif isinstance(op, ConvTranspose):
        weight = op.forward.weight
        terms = weight.shape[0] // op.forward.groups * math.prod(weight.shape[2:])
    else:
        return at.call.refuse("no bound of its rounding is known")
    return Layer(terms, absolute_norm(op, terms), float(weight.abs().max()), bias, row, row_bias)


def absolute_norm(op: Conv | ConvTranspose | Dense, terms: int) -> float:
    """|| |W| ||_2 from above: for A >= 0 and v > 0, ||A||_2^2 <= max_i (A^T A v)_i / v_i (Collatz, Wielandt).

    v is improved by power steps; the smallest of the bounds counts. No term is negative, so that a computed
    entry is off by at most gamma of its roundings, relatively.
    """
    if isinstance(op, ConvTranspose):
        op = op.forward
        terms = math.prod(op.weight.shape[1:])
    magnitude = replace(op, weight=op.weight.abs()) if isinstance(op, Conv) else replace(op, matrix=op.matrix.abs())
    reach = magnitude.weight.numel() if isinstance(magnitude, Conv) else magnitude.matrix.numel()
    error = 1 + 2 * gamma(2 * max(terms, reach) * (op.copies() if isinstance(op, Conv) else 1) + 8)
    v = torch.ones(1, *op.in_shape, dtype=torch.float64)
    best = math.inf
    for _ in range(12):
        w = magnitude.adjoint(magnitude.apply(v))
        found = float((w / v).max())
        if found >= best * 0.999:
            break
        best = found
        v = w.clamp_min(1e-9 * float(w.max())) / max(float(w.max()), 1e-300)
        if not bool((v > 0).all()):
            break
    return 0.0 if best == 0 else up(math.sqrt(up(best * error, 4)), 2)


@local(
    *("linear", "addmm", "mm", "matmul", "bmm", "conv1d", "conv2d", "conv3d", "convolution"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
def dot_products(at: Local) -> float:
    """Sums of n products and a bias, in any order: gamma_{n+1} (|W| |x^| + |b|)."""
    found = layer_of(at)
    size = at.read
    underflow = 8 * (found.terms + 1) * (1 + found.largest + size) * at.unit.tiny
    return total(
        product(at.unit.gamma(found.terms + 1), total(product(found.absolute, size), found.bias)),
        product(root(at.entries), underflow),
    )


def largest_entry(at: Local, distance: float) -> float:
    """The same for the largest entry of the result of a matrix, its input ``distance`` off: E of a logit."""
    if at.call.op not in ("linear", "addmm", "mm", "matmul"):
        return math.inf
    found = layer_of(at)
    size = at.read
    own = product(at.unit.gamma(found.terms + 1), total(product(found.row, size), found.row_bias))
    underflow = 8 * (found.terms + 1) * (1 + found.largest + size) * at.unit.tiny
    return total(product(found.row, distance), own, underflow)


@local(
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    *("adaptive_avg_pool3d", "_adaptive_avg_pool2d", "mean", "sum"),
)
def averaged(at: Local) -> float:
    """A sum of n entries and a division."""
    at.call.ignore(*at.call.given)  # which entries: in the number of terms, and in the constant
    return at.rounded(terms(at.call), at.moved)


@local("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(at: Local) -> float:
    """A = gamma / sqrt(variance + eps), then x A + (beta - mean A), or (x - mean) A + beta: 10 roundings a term."""
    weight, bias, mean, variance = (at.call[name] for name in ("weight", "bias", "running_mean", "running_var"))
    eps = float(at.call["eps"])
    at.call.ignore("input", "training", "momentum", "use_input_stats")  # statistics that are fixed
    if bool((variance < 0).any()) or eps < 0:
        # variance + eps cancels: its relative error, and with it that of the scale, has no bound.
        return at.call.refuse("a running variance is negative, so that variance + eps may be all rounding")
    scale = 1 / torch.sqrt(variance.double() + eps)
    scale = scale if weight is None else scale * weight.double()
    fixed = total(length(at, bias, channels=True), up(length(at, mean.double() * scale, channels=True), 8))
    return at.rounded(10, total(at.moved, fixed))


def terms(call: LipschitzCall) -> int:
    """At most so many roundings does a term of the result take part in, for an op without cancellation."""
    op = call.op
    if "avg_pool" in op:
        found = operator_of(call)
        assert isinstance(found, Separable)
        return math.prod(max(1, int((m != 0).sum(1).max())) for m in found.matrices if m.numel()) + 4
    if op in ("sum", "mean"):
        return call.operands[0].size // max(1, math.prod(call.shape)) + 4
    if op in ("linear", "addmm", "mm", "matmul", "bmm") or op.startswith("conv"):
        found = operator_of(call)
        if isinstance(found, Conv | ConvTranspose):
            conv = found if isinstance(found, Conv) else found.forward
            return conv.weight.numel() + 2
        assert isinstance(found, Dense)
        return int(found.matrix.shape[1]) + 2
    if op.startswith(("batch_norm", "_native_batch_norm")):
        return 10
    return 8


@local("pow")
def power(at: Local) -> float:
    """x^(1/2) is a root, x^1 is x; other powers have no finite constant anyway."""
    at.call.ignore("self")
    return square_root(at) if at.call["exponent"] == 0.5 else at.rounded(8, at.moved)


@local("sqrt")
def square_root(at: Local) -> float:
    """The root of sums of squares: every term of the sum is positive, so that relative errors stay relative.

    q^ = q (1 + e) + t with |e| <= gamma_N, t from underflow: |sqrt q^ - sqrt q| <= gamma_N sqrt q + sqrt |t|.
    """
    squares = at.call.only().find(Squares)
    if squares is None:
        return at.call.refuse("no bound of its rounding is known")
    roundings, growth = 8, 1.0
    for name in squares.nodes:
        roundings += terms(at.calls[name])
        gain = max((g.linf for _, g in at.call.domain.values[name].sources), default=1.0)
        growth = product(growth, max(1.0, gain) if math.isfinite(gain) else 1.0)
    if product(growth, at.read) * at.read > _SQUARE:
        return math.inf
    t = up(8 * roundings * at.unit.tiny * growth, 8)
    return total(product(at.unit.gamma(roundings), at.out), product(root(at.entries), up(math.sqrt(t), 2)))
