"""The norm of a linear operator, from below and from above."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch

from robcert.bounds.lipschitz import dense
from robcert.bounds.lipschitz.circulant import Symbol, symbol, wave
from robcert.bounds.lipschitz.convolution import Conv, ConvTranspose
from robcert.bounds.lipschitz.exact import exact_norm
from robcert.bounds.lipschitz.lanczos import norm_lower_bound, start, top_singular_vector
from robcert.bounds.lipschitz.largest_eigenvalue import EigenvalueBound, one_thread
from robcert.bounds.lipschitz.operators import Bound, Dense, Diagonal, LinearOperator
from robcert.bounds.lipschitz.pooling import Separable
from robcert.errors import EvaluationError
from robcert.math.rounding import down, up
from robcert.types import BoundNorm

Method = Literal["auto", "dense", "circulant", "lanczos"]

_SMALL = 512
"""Up to this side the whole matrix is taken at once."""
_LARGE = 4096
"""Up to this side the whole matrix may be taken to close the gap."""
_STRIP = 2048
"""Up to this side one axis may be written out to close the gap."""
_HARMLESS = 64
"""Weights between 2^-64 and 2^64 need no scaling, which would copy them."""
_MEMORY = 2**30
"""Bytes of Gram matrices at most, where they are not taken in chunks."""


def operator_norm(op: LinearOperator, norm: BoundNorm, *, tol: float = 0.01, method: Method = "auto") -> Bound:
    """Return the norm sup ||A x|| / ||x|| of a linear operator on its input size.

    l1 and l-inf are exact up to the stated rounding for every operator; l2 is a bracket: the upper end is
    proven (`robcert.bounds.lipschitz.circulant`, `dense`, `largest_eigenvalue`), the lower end is measured on a vector
    (`lanczos.norm_lower_bound`).

    Args:
        op: see `robcert.bounds.lipschitz.operators`.
        norm: of input and output.
        tol: refine l2 until (upper - lower) / lower <= tol, where that is possible: see ``Bound.gap``.
        method: the way to the upper bound of l2; "auto" goes on until ``tol`` is reached. "lanczos" finds the
            lower end only: its upper end is sqrt(l1 l-inf).

    Returns:
        Bound: lower <= norm <= upper in real arithmetic, rounded outwards.
    """
    if norm != "l2":
        return exact_norm(op, rows=norm == "linf")
    if isinstance(op, ConvTranspose):  # an operator and its adjoint have the same l2 norm
        return operator_norm(op.forward, norm, tol=tol, method=method)
    if isinstance(op, Diagonal):
        return exact_norm(op, rows=True)
    if isinstance(op, Separable):
        return _separable(op, tol, method)
    if not isinstance(op, Conv | Dense):
        raise TypeError(f"no norm for {type(op).__name__}")
    with one_thread():
        return _scaled(op, tol, method)


def _separable(op: Separable, tol: float, method: Method) -> Bound:
    """The product over the axes.

    Entries that are off by factors within 1 +- e change the norm of a nonnegative matrix by no more.
    """
    lower, upper = 1.0, 1.0
    for matrix in op.matrices:
        bound = operator_norm(Dense(matrix), "l2", tol=tol, method=method)
        lower = down(lower * down(bound.lower * (1 - op.error), 2), 2)
        upper = up(upper * up(bound.upper * (1 + op.error), 2), 2)
    return Bound(lower, upper, "exact" if method == "auto" else method)


def _scaled(op: Conv | Dense, tol: float, method: Method) -> Bound:
    """Divide by a power of two where the weights are so large or small that a square might over- or underflow."""
    weight = op.weight if isinstance(op, Conv) else op.matrix
    largest = max(map(abs, map(float, torch.aminmax(weight)))) if weight.numel() else 0.0
    if not math.isfinite(largest):
        raise EvaluationError("a weight is NaN or infinite", "Check the file: no norm can be computed from it.")
    if largest == 0.0 or (isinstance(op, Conv) and exact_norm(op, rows=True).upper == 0.0):
        return Bound(0.0, 0.0, "exact")
    exponent = min(1000, max(-1000, math.frexp(largest)[1] - 1))
    exponent = 0 if abs(exponent) <= _HARMLESS else exponent
    scaled = weight * 2.0**-exponent if exponent else weight
    op = replace(op, weight=scaled).trimmed() if isinstance(op, Conv) else replace(op, matrix=scaled)
    bound = _METHODS[method](op, tol)
    if bound.upper == 0.0:
        return bound
    return Bound(down(bound.lower * 2.0**exponent), up(bound.upper * 2.0**exponent), bound.method)


def _auto(op: Conv | Dense, tol: float) -> Bound:
    """The cheapest way that reaches ``tol``, else the best that is affordable."""
    if _affordable(op, _SMALL):
        return _dense(op, tol)
    if isinstance(op, Dense):
        known = Bound(norm_lower_bound(op, top_singular_vector(op, start(op), rest=tol / 100)), _root(op), "lanczos")
        return _certified(op, tol, known) if _affordable(op, 2 * _LARGE) else known
    bound = _circulant(op, tol, refine=True)
    if bound.gap > tol and op.axes > 1:
        axis = min(range(op.axes), key=lambda a: op.size[a] * op.windows[a])
        if _strip_side(op, axis) <= _STRIP:
            bound = _tighter(bound, _strip(op, axis, bound, tol))
    if bound.gap > tol and _affordable(op, _LARGE):
        bound = _tighter(bound, _certified(op, tol, bound))
    return bound


def _tighter(one: Bound, other: Bound) -> Bound:
    upper = min((one, other), key=lambda b: b.upper)
    return Bound(max(one.lower, other.lower), upper.upper, upper.method)


def _affordable(op: Conv | Dense, side: int) -> bool:
    size, groups = dense.side(op), op.groups if isinstance(op, Conv) else 1
    return size <= side and 8 * groups * size * size <= _MEMORY


def _dense(op: Conv | Dense, tol: float) -> Bound:
    """The largest eigenvalue of the Gram matrix, proven; the lower end from its eigenvector."""
    matrices, error = dense.grams(op)
    eigenvalue = EigenvalueBound(matrices.shape[-1])
    eigenvalue.include(matrices)
    upper = up(math.sqrt(up(eigenvalue.upper + error, 2)), 2)
    if eigenvalue.vector is None:
        return Bound(0.0, upper if error else 0.0, "dense")
    return Bound(norm_lower_bound(op, dense.witness(op, eigenvalue.index, eigenvalue.vector)), upper, "dense")


def _certified(op: Conv | Dense, tol: float, known: Bound) -> Bound:
    """The whole matrix, only to prove that the norm is at most (1 + tol / 10) times the known lower end.

    If that fails the largest eigenvalue is computed after all.
    """
    matrices, error = dense.grams(op)
    eigenvalue = EigenvalueBound(matrices.shape[-1], tau=(known.lower * (1 + tol / 10)) ** 2)
    eigenvalue.include(matrices)
    lower = (
        known.lower
        if eigenvalue.vector is None
        else max(known.lower, norm_lower_bound(op, dense.witness(op, eigenvalue.index, eigenvalue.vector)))
    )
    return Bound(lower, min(known.upper, up(math.sqrt(up(eigenvalue.upper + error, 2)), 2)), "dense")


def _embedded(op: Conv) -> tuple[Symbol, float, Conv]:
    """A circulant that bounds the convolution: its symbol, the factor on top, and what it embeds.

    Padding that cannot be embedded is taken apart: A = V S with V the convolution without padding on the
    padded input and S the padding, a 0/1 matrix with one 1 a row, so that ||S||^2 is the largest number of copies of
    an entry: ||A|| <= ||V|| sqrt(copies).
    """
    found = symbol(op)
    if found is not None:
        return found, 1.0, op
    valid = Conv(op.weight, op.reach, op.stride, ((0, 0),) * op.axes, op.dilation, op.groups)
    inner = symbol(valid)
    assert inner is not None
    return inner, up(math.sqrt(op.copies()), 2), valid


def _circulant(op: Conv | Dense, tol: float, refine: bool = False) -> Bound:
    """The embedding in a circulant, proven frequency by frequency; the lower end from a plane wave.

    Args:
        op: the operator; a matrix is a convolution with a kernel of one tap.
        tol: how far ``refine`` goes.
        refine: improve the lower end by Lanczos until ``tol`` is reached or nothing moves.
    """
    conv = _as_convolution(op)
    found, factor, embedded = _embedded(conv)
    eigenvalue = EigenvalueBound(found.size)
    for _, matrices in found.grams():
        eigenvalue.include(matrices)
    upper = up(factor * up(math.sqrt(up(eigenvalue.upper + found.error(), 2)), 2), 2)
    if eigenvalue.vector is None:
        return Bound(0.0, upper, "circulant")
    begin = wave(embedded, found, eigenvalue.index, eigenvalue.vector) if embedded is conv else start(conv)
    lower = norm_lower_bound(conv, begin)
    if refine and (upper - lower) > tol * lower:
        lower = max(lower, norm_lower_bound(conv, top_singular_vector(conv, begin, goal=upper / (1 + tol / 2))))
    upper = min(upper, _root(conv))
    return Bound(lower, upper, "circulant" if embedded is conv else "padded circulant")


def _lanczos(op: Conv | Dense, tol: float) -> Bound:
    """The lower end by Golub-Kahan-Lanczos from a fixed start; above it the crude sqrt(l1 l-inf)."""
    return Bound(
        norm_lower_bound(op, top_singular_vector(op, start(op), steps=200, rest=tol / 1000)), _root(op), "lanczos"
    )


def _root(op: Conv | Dense) -> float:
    """||A||_2 <= sqrt(||A||_1 ||A||_inf), rounded up."""
    return up(math.sqrt(exact_norm(op, True).upper) * math.sqrt(exact_norm(op, False).upper), 4)


def _strip_side(op: Conv, axis: int) -> int:
    inputs = op.weight.shape[1] * op.size[axis] * math.prod(op.stride[:axis] + op.stride[axis + 1 :])
    return min(inputs, op.weight.shape[0] // op.groups * op.windows[axis])


def _strip(op: Conv, axis: int, known: Bound, tol: float) -> Bound:
    """One axis written out, the others embedded: proves (1 + tol / 2) times the lower end, or less well."""
    strip = dense.unrolled(op, axis)
    assert isinstance(strip, Conv)
    found, factor, _ = _embedded(strip)
    eigenvalue = EigenvalueBound(found.size, tau=(known.lower * (1 + tol / 2) / factor) ** 2)
    for _, matrices in found.grams():
        eigenvalue.include(matrices)
    upper = up(factor * up(math.sqrt(up(eigenvalue.upper + found.error(), 2)), 2), 2)
    return Bound(known.lower, up(upper + dense.unrolling_error(op, axis), 2), "strip")


def _as_convolution(op: Conv | Dense) -> Conv:
    if isinstance(op, Conv):
        return op
    return Conv(op.matrix.unsqueeze(-1), (1,), (1,), ((0, 0),), (1,))


_METHODS = {"auto": _auto, "dense": _dense, "circulant": _circulant, "lanczos": _lanczos}
