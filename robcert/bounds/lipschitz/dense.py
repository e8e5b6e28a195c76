"""The whole matrix: Gram matrices of small operators, and one axis of a convolution written out."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from robcert.bounds.lipschitz.convolution import Conv
from robcert.bounds.lipschitz.lanczos import roundings
from robcert.bounds.lipschitz.operators import Dense
from robcert.math.rounding import gamma, up

_ROWS = 512
"""Columns of the identity sent through the operator at a time."""
_BYTES = 2**29
"""A matrix of at most this many bytes is written out; of a larger one only the Gram matrix is formed."""


def side(op: Conv | Dense) -> int:
    """The smaller side of the matrix (of one group)."""
    if isinstance(op, Dense):
        return min(op.matrix.shape)
    return min(math.prod(op.in_shape), math.prod(op.out_shape)) // op.groups


def grams(op: Conv | Dense) -> tuple[Tensor, float]:
    """The Gram matrix of each group, A A^T or A^T A, whichever is smaller, and how far it is off.

    From the matrix written out, or the identity is sent through A^T and A. With m the roundings of either and
    |A| as in `roundings`, entry by entry the result is off by at most gamma_{2 m} (|A| |A|^T): in the l2 norm
    gamma_{2 m} || |A| ||_2^2.

    Returns:
        (groups, n, n) float64, and the bound on the l2 norm of the error.
    """
    terms, magnitude = roundings(op)
    error = up(gamma(2 * terms) * up(magnitude * magnitude, 2), 4)
    if isinstance(op, Dense):
        matrix = op.matrix if op.matrix.shape[0] <= op.matrix.shape[1] else op.matrix.T
        return _product(matrix, 8 if len(matrix) >= _ROWS else 1).unsqueeze(0), error
    if _whole(op):
        return _banded(op).unsqueeze(0), error
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


def _whole(op: Conv) -> bool:
    return op.groups == 1 and 8 * math.prod(op.in_shape) * math.prod(op.out_shape) <= _BYTES


def _banded(op: Conv) -> Tensor:
    """The Gram matrix from the whole matrix, entries in the order of the reversed shape (`witness` turns it back).

    In that order the matrix is a band of blocks, one a window of the last axis, and most products are of
    zeros.
    """
    matrix: Conv | Dense = op
    while isinstance(matrix, Conv):
        matrix = unrolled(matrix, 0)
    a, blocks = matrix.matrix, op.windows[-1]
    if a.shape[0] > a.shape[1]:
        a, blocks = a.T.contiguous(), op.size[-1]
    return _product(a, blocks)


def _product(a: Tensor, blocks: int) -> Tensor:
    """A A^T, block by block of rows: each pair once, and only the columns that both use."""
    gram = a.new_zeros(len(a), len(a))
    parts = list(a.split(-(-len(a) // blocks)))
    spans: list[tuple[int, int]] = []
    for part in parts:
        used = part.any(0).nonzero().flatten()
        spans.append((int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0))
    rows = [slice(k * len(parts[0]), k * len(parts[0]) + len(part)) for k, part in enumerate(parts)]
    for i, j in combinations_with_replacement(range(len(parts)), 2):
        low, high = max(spans[i][0], spans[j][0]), min(spans[i][1], spans[j][1])
        if low < high:
            block = parts[i][:, low:high] @ parts[j][:, low:high].T
            gram[rows[i], rows[j]] = block
            gram[rows[j], rows[i]] = block.T
    return gram


def witness(op: Conv | Dense, index: int, vector: Tensor) -> Tensor:
    """The right singular vector that belongs to an eigenvector of matrix ``index`` of `grams`: (1, *in_shape)."""
    if isinstance(op, Dense):
        full = op.matrix.T @ vector if op.matrix.shape[0] <= op.matrix.shape[1] else vector
        lead = torch.zeros(math.prod(op.lead), len(full), dtype=full.dtype, device=full.device)
        lead[0] = full
        return lead.view(1, *op.in_shape)
    outputs = math.prod(op.out_shape) <= math.prod(op.in_shape)
    shape = op.out_shape if outputs else op.in_shape
    if _whole(op):
        full = vector.view(shape[::-1]).permute(*reversed(range(len(shape)))).reshape(1, *shape)
    else:
        spread = vector.new_zeros(op.groups, len(vector))
        spread[index] = vector
        full = spread.view(1, *shape)
    return op.adjoint(full) if outputs else full


def unrolled(op: Conv, axis: int) -> Conv | Dense:
    """The same convolution with one axis written out as channels: exact for that axis, whatever its padding.

    The channel (t, o) of the result reads the channel (i, c) with the taps k of the axis for which window t
    reads entry i: W'[(t, o), (i, c)] = sum over those k of W[o, c, .., k, ..]. The order of entries changes,
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
    spread = spread.view(*spread.shape[:-1], windows, size).movedim(-2, 1).movedim(-1, 3)
    groups, t, o, i, c = spread.shape[:5]
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
