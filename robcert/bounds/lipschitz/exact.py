"""The l1 and l-infinity norms of linear operators, exact for every case.

The l-inf norm of a matrix is its largest absolute row sum, the l1 norm its largest absolute column sum. A row
of a convolution belongs to an output entry: along each axis its window reads some taps, and taps that read
the same input entry (copies made by the padding) are added before the absolute value is taken. A column
belongs to an input entry: along each axis it is read by some windows, by each through some set of taps. So
along each axis a row or a column is a *pattern*, a list of groups of taps; the taps of a group are added, the
absolute values of the groups are summed. There are few different patterns on an axis, and only those that no other
dominates matter:

    norm = max over the patterns P_1 .. P_d and the kept channel a of
           sum over the other channel b and the groups p_1 of P_1, .. of
           | sum over the taps k_1 in p_1, .. of W[a, b, k] |

With zero padding all groups are single taps, and |W| is summed over b first. Where assumption 1 of Liang &
Huang (2021, "Large Norms of CNN Layers Do Not Hurt Adversarial Robustness") holds this is their theorem 1:
the only row pattern is the whole kernel, and the column patterns are the residue classes of their lemma 1.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from itertools import product
from typing import cast

import torch
from torch import Tensor

from robcert.bounds.lipschitz.convolution import Conv, ConvTranspose
from robcert.bounds.lipschitz.operators import Bound, Dense, Diagonal, LinearOperator
from robcert.bounds.lipschitz.pooling import Separable
from robcert.math.rounding import down, gamma, up

Pattern = tuple[int, ...]
"""The groups of taps of one row or column on one axis: a bit mask each, sorted."""


def exact_norm(op: LinearOperator, rows: bool) -> Bound:
    """The l-inf norm (rows) or the l1 norm (columns) of any operator.

    Rounding: a sum of m terms of either sign is off by at most gamma_m times the sum of their absolute values
    (`robcert.math.rounding.gamma`); the bracket is that wide.
    """
    if isinstance(op, ConvTranspose):
        return exact_norm(op.forward, not rows)
    if isinstance(op, Conv):
        return _convolution(op, rows)
    if isinstance(op, Dense):
        value, terms = _matrix(op, rows)
        return _bracket(value, gamma(terms) * value)
    if isinstance(op, Diagonal):
        value = float(op.scale.abs().max())
        return _bracket(value, op.error * value)
    if isinstance(op, Separable):
        value, error = 1.0, 0.0
        for matrix in op.matrices:
            norm, terms = _matrix(Dense(matrix), rows)
            value *= norm
            error += gamma(terms + 4) + op.error
        return _bracket(value, 2 * error * value)
    raise TypeError(f"no norm for {type(op).__name__}")


def absolute_norms(op: Conv | Dense) -> tuple[float, float]:
    """Upper bounds of the l-inf and the l1 norm of |A|, entry by entry: no two weights cancel in it."""
    if isinstance(op, Dense):
        steps = 4 * max(op.matrix.shape)
        return up(_matrix(op, True)[0], steps), up(_matrix(op, False)[0], steps)
    per_output, per_input = op.kernel_sums
    steps = 4 + op.weight.numel()
    return up(per_output, steps), up(per_input * op.copies(), steps)


def _matrix(op: Dense, rows: bool) -> tuple[float, int]:
    sums = op.absolute_sums[0 if rows else 1]
    return float(sums.max()), int(op.matrix.shape[1 if rows else 0])


def _bracket(value: float, error: float) -> Bound:
    return Bound(
        max(0.0, down(value - up(error, 4), 4)),
        up(value + up(error, 4), 4) if value or error else 0.0,
        "exact",
    )


def _convolution(op: Conv, rows: bool) -> Bound:
    weight = op.weight
    if not rows:  # (groups, outputs, inputs, *kernel) -> (groups inputs, outputs, *kernel)
        weight = weight.view(op.groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    patterns = [_patterns(op, axis, rows) for axis in range(op.axes)]
    terms = weight.shape[1] * math.prod(max(sum(g.bit_count() for g in p) for p in axis) for axis in patterns)
    single = all(group.bit_count() == 1 for axis in patterns for pattern in axis for group in pattern)
    if single:
        sums = weight.abs().sum(1)
        for pattern, taps in zip(patterns, op.kernel, strict=True):
            if len(pattern) > 1 or len(max(pattern)) != taps:
                counts = torch.stack([_groups(p, taps, weight).sum(0) for p in pattern])
                sums = sums.movedim(1, -1) @ counts.T
            else:
                sums = sums.sum(1, keepdim=True).movedim(1, -1)
        value = float(sums.max())
        return _bracket(value, gamma(terms + 2 * op.axes) * value)
    value = 0.0
    for chosen in product(*patterns):
        sums = weight
        for pattern, taps in zip(chosen, op.kernel, strict=True):
            sums = sums.movedim(2, -1) @ _groups(pattern, taps, weight).T
        value = max(value, float(sums.abs().flatten(1).sum(1).max()))
    magnitude = float(weight.abs().flatten(1).sum(1).max()) * math.prod(
        max(max(Counter(_taps(p)).values(), default=0) for p in axis) for axis in patterns
    )
    added = math.prod(max(g.bit_count() for p in axis for g in p) for axis in patterns)
    return _bracket(value, gamma(added) * magnitude + gamma(terms + 4) * value)


def _groups(pattern: Pattern, taps: int, like: Tensor) -> Tensor:
    """The 0/1 matrix of a pattern: (groups, taps); one row of zeros for the empty pattern."""
    rows = [[float(group >> k & 1) for k in range(taps)] for group in pattern or (0,)]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _taps(pattern: Pattern) -> list[int]:
    return [k for group in pattern for k in range(group.bit_length()) if group >> k & 1]


def _patterns(op: Conv, axis: int, rows: bool) -> tuple[Pattern, ...]:
    geometry = op.size[axis], op.kernel[axis], op.stride[axis], op.padding[axis], op.dilation[axis]
    return _patterns_of(*geometry, op.mode, rows)


@lru_cache(maxsize=4096)
def _patterns_of(
    size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, mode: str, rows: bool
) -> tuple[Pattern, ...]:
    """The patterns on one axis that no other dominates."""
    weight = torch.zeros(1, 1, kernel, dtype=torch.float64)
    op = Conv(weight, (size,), (stride,), (padding,), (dilation,), 1, mode)  # pyright: ignore[reportArgumentType]
    found: dict[int, dict[int, int]] = {}
    for window, sources in enumerate(op.taps(0).tolist()):
        for tap, source in enumerate(sources):
            if source >= 0:
                line, group = (window, source) if rows else (source, window)
                groups = found.setdefault(line, {})
                groups[group] = groups.get(group, 0) | 1 << tap
    different = {tuple(sorted(groups.values())) for groups in found.values()}
    kept: list[Pattern] = []
    for pattern in sorted(different, key=lambda p: (-len(p), p)):
        if not any(_dominates(other, pattern) for other in kept):
            kept.append(pattern)
    return tuple(kept) if kept else cast("tuple[Pattern, ...]", ((),))


def _dominates(larger: Pattern, smaller: Pattern) -> bool:
    """True if the sum of ``larger`` is at least that of ``smaller`` whatever the weights are.

    Either every group of the smaller is a group of the larger; or that holds after the groups of the smaller
    are taken apart into single taps, which only raises its sum (triangle inequality).
    """
    have = Counter(larger)
    return Counter(smaller) <= have or Counter(1 << k for k in _taps(smaller)) <= have
