"""The whole matrix: Gram matrices of small operators, and one axis of a convolution written out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robcert.lipschitz.convolution import Conv
from robcert.lipschitz.lanczos import roundings
from robcert.lipschitz.operators import Dense
from robcert.math.rounding import gamma, up

_ROWS = 512
"""Columns of the identity sent through the operator at a time."""


def side(op: Conv | Dense) -> int:
    """The smaller side of the matrix (of one group)."""
    if isinstance(op, Dense):
        return min(op.matrix.shape)
    return min(math.prod(op.in_shape), math.prod(op.out_shape)) // op.groups


def grams(op: Conv | Dense) -> tuple[Tensor, float]:
    """The Gram matrix of each group, A A^T or A^T A, whichever is smaller, and how far it is off.

    The identity is sent through A^T and A. With m the roundings of either and |A| as in `roundings`, entry by
    entry the result is off by at most gamma_{2 m} (|A| |A|^T): in the l2 norm gamma_{2 m} || |A| ||_2^2.

    Returns:
        (groups, n, n) float64, and the bound on the l2 norm of the error.
    """
    terms, magnitude = roundings(op)
    error = up(gamma(2 * terms) * up(magnitude * magnitude, 2), 4)
    if isinstance(op, Dense):
        matrix = op.matrix if op.matrix.shape[0] <= op.matrix.shape[1] else op.matrix.T
        return (matrix @ matrix.T).unsqueeze(0), error
    outputs = math.prod(op.out_shape) <= math.prod(op.in_shape)
    shape = op.out_shape if outputs else op.in_shape
    size = math.prod(shape) // op.groups
    identity = torch.eye(size, dtype=torch.float64, device=op.weight.device)
    rows: list[Tensor] = []
    for part in identity.split(max(1, _ROWS // op.groups)):
        unit = part.repeat(1, op.groups).view(-1, *shape)  # the same entry in every group at once
        image = op.apply(op.adjoint(unit)) if outputs else op.adjoint(op.apply(unit))
        rows.append(image.reshape(len(part), op.groups, size).transpose(0, 1))
    return torch.cat(rows, 1), error


def unrolled(op: Conv, axis: int) -> Conv | Dense:
    """The same convolution with one axis written out as channels: exact for that axis, whatever its padding.

    The channel (o, t) of the result reads the channel (c, i) with the taps k of the axis for which window t
    reads entry i: W'[(o, t), (c, i)] = sum over those k of W[o, c, .., k, ..]. The order of entries changes,
    no norm does.

    Where several taps meet in one entry (padding that copies) their sum is rounded: see `unrolling_error`.
    """
    taps = op.taps(axis)
    windows, size = op.windows[axis], op.size[axis]
    choose = torch.zeros(windows, size, op.kernel[axis], dtype=torch.float64)
    for k in range(op.kernel[axis]):
        source = taps[:, k]
        inside = (source >= 0).nonzero().flatten()
        choose[inside, source[inside], k] = 1.0
    weight = op.weight.view(op.groups, -1, *op.weight.shape[1:]).movedim(axis + 3, -1)
    spread = weight @ choose.to(weight.device).flatten(0, 1).T  # (groups, o, c, *others, windows size)
    spread = spread.view(*spread.shape[:-1], windows, size).movedim(-2, 2).movedim(-1, 4)
    groups, o, t, c, i = spread.shape[:5]
    spread = spread.reshape(groups * o * t, c * i, *spread.shape[5:])
    others = [a for a in range(op.axes) if a != axis]
    if not others and op.groups == 1:
        return Dense(spread)
    if not others:  # one tap on a single entry keeps the groups
        return Conv(spread.unsqueeze(-1), (1,), (1,), ((0, 0),), (1,), op.groups)
    pick = [tuple(values[a] for a in others) for values in (op.size, op.stride, op.dilation)]
    sides = tuple(op.padding[a] for a in others)
    return Conv(spread, pick[0], pick[1], sides, pick[2], op.groups, op.mode)


def unrolling_error(op: Conv, axis: int) -> float:
    """A bound on the l2 norm of what `unrolled` rounds away: 0 unless the padding copies entries."""
    if op.mode == "zeros":
        return 0.0
    _, magnitude = roundings(op)
    return up(gamma(op.kernel[axis]) * magnitude, 4)
