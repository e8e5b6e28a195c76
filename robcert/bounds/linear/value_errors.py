r"""How far the float32 execution of a network may be from real arithmetic over a region, entry by entry.

With :math:`\hat h` the executed value of a step and h the real one at the same input of the region,
:math:`e = \hat h - h` obeys

.. math:: e = D (\hat h_{in} - h_{in}) + \delta, \qquad |\delta| \le v,

where D is the matrix of an affine step, the slopes of an elementwise function, or the weights of the entries that may
be the largest, and v what the step rounds (`robcert.bounds.rounding.entrywise`). Forwards, |e| is bounded with |D|.
Backwards, coefficients c of the logits are pulled through the middle of what D may be: errors on several ways cancel,
and only what may switch over the region costs more than |c| v,

.. math:: |c^T e| \le \sum_k |c_k|^T v_k + \sum_k |c_k|^T r_k |e_{k, in}|,

with r the largest :math:`|D - \bar D|`. The size of the region matters only by what may switch in it: in a small ball
the bound is all but that of one point. The proof is in docs/soundness.md, section 6.8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robcert.bounds.linear.backward import Relaxation
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.order_statistics import OrderStatistic
from robcert.bounds.linear.slopes import averaged, centre_and_radius, elementwise_slopes, unit_interval
from robcert.bounds.linear.step import Interval, Step
from robcert.math.rounding import gamma

_OUTWARDS = 1 + 2.0**-40
"""More than the roundings of a few products and sums of positive numbers."""


def value_errors(found: Relaxation) -> dict[str, Tensor]:
    """Return bounds of |executed - real| for every value, by name: (n, *shape) float64 each.

    Args:
        found: the intervals of all values over the region, which hold for both.
    """
    program = found.program
    images = found.intervals[program.images]
    errors = {program.images: torch.zeros_like(images.lower)}
    for step in program.steps:
        moved = _moved(step, [errors[source] for source in step.sources], found)
        own, interval = found.off(step.node), found.intervals[step.node]
        error = moved * _OUTWARDS if own is None else (moved + own) * _OUTWARDS
        # Both lie in the interval; what is not finite says nothing.
        width = (interval.upper - interval.lower) * _OUTWARDS
        errors[step.node] = torch.where(error <= width, error, width)
    return errors


def _moved(step: Step, given: Sequence[Tensor], found: Relaxation) -> Tensor:
    """How far the errors of what a step reads move its result; infinite where nothing is known."""
    if step.affine:
        both = step.interval([Interval(-error, error) for error in given], found.region)
        return both.upper / 2 - both.lower / 2
    read = found.intervals[step.sources[0]]
    slopes = elementwise_slopes(step, read)
    if slopes is not None:
        steepest = torch.maximum(slopes[0].abs(), slopes[1].abs())
        return torch.where(given[0] > 0, steepest * given[0], 0.0)
    if isinstance(step, OrderStatistic):
        result = found.intervals[step.node]
        _, moving, _ = averaged(step, torch.zeros_like(result.lower).unsqueeze(1), read, result)
        return _largest(step, given[0], moving).view_as(result.lower)
    return torch.full_like(found.intervals[step.node].lower, math.inf)


def _largest(step: OrderStatistic, error: Tensor, moving: Tensor) -> Tensor:
    """The largest error of the entries of each result that may have the rank: (n, outputs)."""
    return (error.flatten(1)[:, step.index.clamp_min(0)] * moving).amax(2)


def difference_errors(found: Relaxation, rows: Tensor, errors: Mapping[str, Tensor]) -> Tensor:
    """Return bounds of |c . (executed - real)| for linear functions c of the logits.

    Args:
        found: the intervals of all values over the region.
        rows: c, (n, rows, classes).
        errors: those of all values (`value_errors`).

    Returns:
        (n, rows) float64.
    """
    program = found.program
    pending = {program.logits: Rows(rows)}
    total = torch.zeros(rows.shape[:2], dtype=torch.float64)
    for step in reversed(program.steps):
        mine = pending.pop(step.node, None)
        if mine is None:
            continue
        a = mine.whole(step.shape).a
        pulled = _pulled(step, a, found, errors)
        if pulled is None:
            total = total + Rows(a.abs()).dot(errors[step.node])
            continue
        parts, more, sums = pulled
        own = found.off(step.node)
        total = total + more if own is None else total + more + Rows(a.abs()).dot(own)
        # The rounding of the coefficients.
        rounded = gamma(2 * step.roundings + 16) * sums * a.flatten(2).abs().sum(2) + 2.0**-900
        for source, part in zip(step.sources, parts, strict=True):
            if part is None:
                continue
            total = total + rounded * errors[source].flatten(1).amax(1, keepdim=True)
            held = pending.get(source)
            pending[source] = part if held is None else held.plus(part, program.shapes[source])
    forwards = Rows(rows.abs()).dot(errors[program.logits])
    wide = 1 + 2.0**-20  # sums of a few million positive terms
    return torch.where(total <= forwards, total, forwards) * wide


def _pulled(
    step: Step, a: Tensor, found: Relaxation, errors: Mapping[str, Tensor]
) -> tuple[Sequence[Rows | None], Tensor | float, float] | None:
    """The coefficients of what a step reads, what its slopes may cost, and the largest sum of a row of its matrix."""
    if step.affine:
        ones = [unit_interval(found.program.shapes[source]) for source in step.sources]
        return step.pull(Rows(a), None).rows, 0.0, float(step.magnitude(ones, None))
    source = step.sources[0]
    read, error = found.intervals[source], errors[source]
    slopes = elementwise_slopes(step, read)
    if slopes is not None:
        middle, radius = centre_and_radius(*slopes)
        spare = torch.where(error > 0, radius * error, 0.0)
        return [Rows(a * middle.unsqueeze(1))], Rows(a.abs()).dot(spare), float(middle.abs().amax())
    if isinstance(step, OrderStatistic):
        part, moving, share = averaged(step, a, read, found.intervals[step.node])
        return [part], Rows(a.flatten(2).abs()).dot(2 * share * _largest(step, error, moving)), 1.0
    return None
