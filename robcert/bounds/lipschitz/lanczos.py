"""The l2 norm of any operator from below: Golub-Kahan bidiagonalisation, and a witness that is measured."""

from __future__ import annotations

import math

import numpy
import torch
from torch import Tensor

from robcert.bounds.lipschitz.convolution import Conv, ConvTranspose
from robcert.bounds.lipschitz.exact import absolute_norms
from robcert.bounds.lipschitz.operators import Dense, LinearOperator
from robcert.math.rounding import down, gamma, up

_MEMORY = 512 * 2**20


def start(op: LinearOperator) -> Tensor:
    """A fixed vector without symmetries: (1, *in_shape)."""
    count = math.prod(op.in_shape)
    return torch.cos(torch.arange(count, dtype=torch.float64) ** 2 * 0.7548776662466927 + 1).view(1, *op.in_shape)


def roundings(op: LinearOperator) -> tuple[int, float]:
    """Return m and an upper bound of || |A| ||_2, by which A v is rounded: |fl(A v) - A v| <= gamma_m |A| |v|.

    m is the number of products that are summed into one entry, plus one a copy;
    || |A| ||_2 <= sqrt(|| |A| ||_1 || |A| ||_inf).
    """
    if isinstance(op, ConvTranspose):
        return roundings(op.forward)
    if isinstance(op, Conv):
        taps = math.prod(op.kernel) * op.copies()
        terms = taps * max(op.weight.shape[0] // op.groups, op.weight.shape[1]) + 2
    elif isinstance(op, Dense):
        terms = max(op.matrix.shape) + 2
    else:
        raise TypeError(f"no witness for {type(op).__name__}")
    rows, columns = absolute_norms(op)
    return terms, up(math.sqrt(rows) * math.sqrt(columns), 8)


def norm_lower_bound(op: LinearOperator, x: Tensor) -> float:
    """Return a lower bound of the l2 norm: ||A x|| / ||x||, rounded down.

    With y = fl(A x): ||A x|| >= ||y|| - gamma_m || |A| ||_2 ||x|| (`roundings`), and a computed norm of a
    vector of n entries is off by at most gamma_{n+2}, relatively.
    """
    y = op.apply(x)
    terms, magnitude = roundings(op)
    length = up(float(torch.linalg.vector_norm(x)) * (1 + gamma(x.numel() + 2)), 4)
    image = float(torch.linalg.vector_norm(y)) * (1 - gamma(y.numel() + 2))
    if not (math.isfinite(length) and length > 0):
        return 0.0
    return max(0.0, down(down(image, 4) / length - up(gamma(terms) * magnitude, 4), 4))


def top_singular_vector(
    op: LinearOperator, x: Tensor, *, goal: float = math.inf, steps: int = 40, rest: float = 1e-4
) -> Tensor:
    """Return a vector that A stretches by almost its norm, by Golub-Kahan-Lanczos with full reorthogonalisation.

    A V = U B, A^T U = V B^T + ..., with U and V orthonormal and B upper bidiagonal; the largest singular
    value of B grows towards that of A, and V times its right singular vector is the vector. Orthogonalised
    twice a step.

    Args:
        op: A.
        x: (1, *in_shape), where to begin.
        goal: stop when the stretch is at least this much.
        steps: at most this many (fewer where the memory for U and V would exceed 512 MiB).
        rest: stop when eight steps raised the stretch by less than this factor.

    Returns:
        (1, *in_shape), of length about 1.

    Source: Golub & Kahan (1965), Calculating the singular values and pseudo-inverse of a matrix.
    """
    sizes = math.prod(op.in_shape), math.prod(op.out_shape)
    steps = max(2, min(steps, min(sizes) + 1, _MEMORY // (8 * sum(sizes))))
    right, left = x.new_zeros(steps, sizes[0]), x.new_zeros(steps, sizes[1])
    bidiagonal = numpy.zeros((steps, steps))
    history: list[float] = []
    v = x.flatten() / torch.linalg.vector_norm(x)
    best = numpy.ones(1)
    for k in range(steps):
        right[k] = v
        u = _orthogonal(op.apply(v.view(1, *op.in_shape)).flatten(), left[:k])
        alpha = float(torch.linalg.vector_norm(u))
        bidiagonal[k, k] = alpha
        _, values, rows = numpy.linalg.svd(bidiagonal[: k + 1, : k + 1])
        history.append(float(values[0]))
        best = rows[0]
        slow = k >= 8 and history[-1] <= history[-9] * (1 + rest)
        if history[-1] >= goal or slow or k + 1 == steps or alpha <= 1e-14 * history[-1]:
            break
        left[k] = u / alpha
        v = _orthogonal(op.adjoint(left[k].view(1, *op.out_shape)).flatten(), right[: k + 1])
        beta = float(torch.linalg.vector_norm(v))
        if beta <= 1e-14 * history[-1]:
            break
        bidiagonal[k, k + 1] = beta
        v = v / beta
    mixture = torch.from_numpy(best.copy()).to(right)
    return (mixture @ right[: len(best)]).view(1, *op.in_shape)


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    for _ in range(2 if len(basis) else 0):
        vector = vector - (basis @ vector) @ basis
    return vector
