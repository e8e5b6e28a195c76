r"""How fast linear functions of a value move over a region: local Lipschitz constants.

Between two inputs of the region every step moves by a matrix times the move of what it reads. That of an affine step is
fixed; that of ReLU is diagonal, with a 1 or a 0 where the sign is certain in the region, and something in [0, 1]
elsewhere. With :math:`\bar D` in the middle of what is possible,

.. math:: c^T W_{L+1} D_L W_L \cdots D_1 W_1 = \bar c_0^T
          + \sum_k \bar c_k^T (D_k - \bar D_k) W_k D_{k-1} \cdots W_1,
          \quad \bar c_{k-1}^T = \bar c_k^T \bar D_k W_k, \quad \bar c_L^T = c^T W_{L+1},

so that the constant is at most :math:`\|\bar c_0\|_* + \sum_k \|\,|\bar c_k| r_k\|_* L_k`, with r the largest
:math:`|D - \bar D|` of an entry and L the global constants of what the activations read. Entries that cannot switch are
linear and cost nothing. The way back may end at any value, whose own L then stands for what is in front of it; of all
these bounds the smallest counts. The proof, with the rounding of the coefficients, is in docs/soundness.md, section 2.

Source: entries that cannot switch over the ball are those of Y. Huang et al., Training Certifiably Robust Neural
Networks with Efficient Local Lipschitz Bounds, NeurIPS 2021, who take the rows of those that stay 0 out of the product
of norms. Here those that stay linear cost nothing either, as in RecurJac (H. Zhang et al., AAAI 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robcert.bounds.linear.activations import Activation, PiecewiseLinear
from robcert.bounds.linear.affine import Dense
from robcert.bounds.linear.backward import Relaxation
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.convolution import Convolution
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.order_statistics import OrderStatistic
from robcert.bounds.linear.program import Program
from robcert.bounds.linear.step import Interval, Step
from robcert.math.rounding import gamma
from robcert.types import BOUND_NORMS, BoundNorm

Lengths = Mapping[BoundNorm, Tensor]
"""Bounds of the dual norms of coefficients (n, rows), by the norm of the value that they are of."""
Moves = Mapping[BoundNorm, float]
"""How far a value moves at most, in each norm, for each unit that the input moves in the norm of the region."""

_OUTWARDS = 1 + 2.0**-40
"""More than the roundings of a few products and sums of positive numbers."""


@dataclass(frozen=True)
class Centred:
    """Coefficients behind a nonlinear step, as if its slopes were in the middle.

    Attributes:
        rows: of what the step reads.
        off: what the slopes may add to the coefficients.
        sums: no row of the matrix of the middle has a larger absolute sum.
    """

    rows: Rows
    off: Lengths
    sums: float


def slopes(found: Relaxation, rows: Tensor, moves: Callable[[str], Moves]) -> Tensor:
    """Return L with |c . (z(x'') - z(x'))| <= L ||x'' - x'|| for all x', x'' of the region, rounded up.

    Args:
        found: the intervals of all values over the region.
        rows: c, (n, rows, classes), of the logits z.
        moves: of a value, by name; infinite where nothing is known.

    Returns:
        (n, rows) float64.
    """
    program = found.program
    pending = {program.logits: Rows(rows)}
    ended = {program.logits: _moved(lengths(rows), moves(program.logits))}
    spent, best = torch.zeros_like(ended[program.logits]), ended[program.logits]
    for step in reversed(program.steps):
        mine = pending.pop(step.node, None)
        if mine is None:
            continue
        own, mine = ended.pop(step.node), mine.whole(step.shape)
        if step.affine:
            parts = step.pull(mine, None).rows
            sums = float(step.magnitude([unit_interval(program.shapes[source]) for source in step.sources], None))
        else:
            centred = _centred(step, mine.a, [found.intervals[source] for source in step.sources], found.region)
            if centred is None:
                spent = spent + own
                continue
            parts, sums = [centred.rows], centred.sums
            spent = spent + _moved(centred.off, moves(step.sources[0]))
        # The rounding of the coefficients, whose dual norms are all at most their sum.
        rounded = gamma(2 * step.roundings + 16) * sums * mine.a.flatten(2).abs().sum(2) + 2.0**-900
        for source, part in zip(step.sources, parts, strict=True):
            if part is None:
                continue
            spent = spent + _moved(dict.fromkeys(BOUND_NORMS, rounded), moves(source))
            held = pending.get(source)
            pending[source] = part if held is None else held.plus(part, program.shapes[source])
            ended[source] = _moved(lengths(pending[source].whole(program.shapes[source]).a), moves(source))
        best = torch.minimum(best, spent + sum(ended.values()))
    return best * _OUTWARDS


def intervals(program: Program, region: Region, here: Relaxation, moves: Callable[[str], Moves]) -> Relaxation:
    """Return intervals of all values of the network in real arithmetic, by interval arithmetic.

    What a layer with weights reads lies in an l2 ball around its value at the image, so that the result is within the
    l2 norm of a row times the radius.

    Args:
        program: the network.
        region: the inputs.
        here: intervals of the values at the images themselves.
        moves: as in `slopes`.
    """
    found = Relaxation(program, region)
    found.intervals[program.images] = Interval(region.lower, region.upper, torch.ones(1, dtype=torch.float64), region.x)
    for step in program.steps:
        given, around = [found.intervals[source] for source in step.sources], region
        source = step.sources[0]
        if isinstance(step, Dense | Convolution) and source != program.images and math.isfinite(moves(source)["l2"]):
            at = here.intervals[source]
            middle = at.lower / 2 + at.upper / 2
            off = lengths((at.upper - at.lower).unsqueeze(1))["l2"].squeeze(1)
            ball = (moves(source)["l2"] * region.eps + off) * _OUTWARDS
            given = [replace(given[0], spread=torch.ones(1, dtype=torch.float64), here=middle)]
            around = replace(region, eps=ball, norm="l2")
        found.intervals[step.node] = step.interval(given, around)
    return found


def _centred(step: Step, a: Tensor, given: list[Interval], region: Region) -> Centred | None:
    """The coefficients behind a nonlinear step; None where its slopes are not known."""
    slopes = elementwise_slopes(step, given[0])
    if slopes is not None:
        middle, radius = centre_and_radius(*slopes)
        return Centred(Rows(a * middle.unsqueeze(1)), lengths(a * radius.unsqueeze(1)), float(middle.abs().amax()))
    if isinstance(step, OrderStatistic):
        return _selected(step, a, given[0], step.interval(given, region))
    return None


def elementwise_slopes(step: Step, x: Interval) -> tuple[Tensor, Tensor] | None:
    """Return the smallest and the largest slope of each entry of an elementwise function; None for other steps.

    Args:
        step: any step.
        x: the interval of what it reads.
    """
    if isinstance(step, PiecewiseLinear):
        below = step.below.expand_as(x.lower)
        sure = torch.where(x.lower >= 0, 1.0, below)
        crossing = (x.lower < 0) & (x.upper > 0)
        return torch.where(crossing, below.clamp_max(1), sure), torch.where(crossing, below.clamp_min(1), sure)
    if isinstance(step, Activation) and all(step.function.convexity):
        return slope_range(step, x)
    return None


def centre_and_radius(least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle of what slopes may be, and how far they are from it at most."""
    middle = least / 2 + most / 2
    return middle, torch.maximum(most - middle, middle - least) * _OUTWARDS


def slope_range(step: Activation, x: Interval) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest slope of each entry over its interval: between knots slopes are monotone."""
    shape = step.function
    ends = [x.lower, x.upper, *(x.lower.new_tensor(knot).clamp(x.lower, x.upper) for knot in shape.knots)]
    found = torch.stack([shape.slope(end) for end in ends])
    # What the formulas of slopes are off by in float64; their factors grow like t^3 at most.
    slack = 2.0**-38 * (1 + torch.maximum(x.lower.abs(), x.upper.abs())) ** 3 + shape.error
    return found.amin(0) - slack, found.amax(0) + slack


def _selected(step: OrderStatistic, a: Tensor, x: Interval, out: Interval) -> Centred:
    r"""Of several entries that may have the rank the result moves like one, or like a mean of several.

    A row :math:`\lambda - 1/m` with :math:`\lambda` in the simplex has no entry above 1 - 1/m, an l2 norm of at most
    sqrt(1 - 1/m) and an l1 norm of at most 2 (1 - 1/m). Where at most K rows meet in an entry, the square of their sum
    is at most K times the sum of their squares.
    """
    pulled, _, spare = averaged(step, a, x, out)
    flat, spare = a.flatten(2), spare.unsqueeze(1)
    met = int(torch.bincount(step.index[step.index >= 0]).amax())
    one = lengths(flat * spare)
    off: dict[BoundNorm, Tensor] = {
        "l2": lengths(flat * spare.sqrt())["l2"] * math.sqrt(met),
        "linf": one["linf"] * 2,
        "l1": one["l1"] * met,
    }
    wide: dict[BoundNorm, Tensor] = {norm: length * _OUTWARDS for norm, length in off.items()}
    return Centred(pulled, wide, 1.0)


def averaged(step: OrderStatistic, a: Tensor, x: Interval, out: Interval) -> tuple[Rows, Tensor, Tensor]:
    """Return coefficients behind an order statistic, as if each of m entries that may have the rank had the weight 1/m.

    Entries that do not move at all count as one, without coefficient.

    Args:
        step: the order statistic.
        a: (n, rows, *shape), of its result.
        x: the interval of what it reads.
        out: that of its result.

    Returns:
        The coefficients of what it reads; which entries (n, outputs, entries of one) may have the rank and move; and
        1 - 1/m, (n, outputs).
    """
    at = step.index.clamp_min(0)
    low, high = (side.flatten(1)[:, at] for side in (x.lower, x.upper))
    least, most = (side.flatten(1).unsqueeze(2) for side in (out.lower, out.upper))
    may = (step.index >= 0) & (low <= most) & (high >= least)
    moving = may & (low < high)
    count = (moving.sum(2) + (may & ~moving).any(2)).clamp_min(1).double()
    flat = a.flatten(2)
    pulled = flat.new_zeros(*flat.shape[:2], math.prod(step.in_shape))
    for tap in range(at.shape[1]):
        pulled.index_add_(2, at[:, tap], flat * (moving[:, :, tap] / count).unsqueeze(1))
    return Rows(pulled.unflatten(2, step.in_shape)), moving, 1 - 1 / count


def lengths(a: Tensor) -> dict[BoundNorm, Tensor]:
    """Return the dual norms of coefficients (n, rows, ...), rounded up: (n, rows) each."""
    flat = a.flatten(2)
    size = flat.abs()
    largest = size.amax(2)
    # The second term is above what squares below the smallest float64 may have had as a root.
    l2 = torch.maximum(torch.linalg.vector_norm(flat, dim=2), largest) + (largest > 0) * 2.0**-480
    upwards = 1 + 2 * gamma(flat.shape[2] + 8)
    return {"l2": l2 * upwards, "linf": size.sum(2) * upwards, "l1": largest}


def _moved(off: Lengths, moves: Moves) -> Tensor:
    """How far a linear function of a value moves, by Hölder in the norm in which that is least."""
    ways = [torch.where(off[norm] > 0, off[norm] * moves[norm] * _OUTWARDS, 0.0) for norm in BOUND_NORMS]
    return torch.stack(ways).amin(0)


def unit_interval(shape: tuple[int, ...]) -> Interval:
    """Values of at most 1."""
    one = torch.ones(1, *shape, dtype=torch.float64)
    return Interval(-one, one)
