"""Branch and bound over the inputs: a box that CROWN does not exclude is halved.

For networks with few inputs, whatever their nonlinearities. The boxes with the smallest bounds go first, many at once;
a box is halved across the side that moves its worst bound the most, its width times the coefficient of CROWN's line.
Source: the heuristic is the "smart branching" of Wang et al. 2018 (ReluVal, Neurify), with CROWN for their intervals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from robcert.bounds.linear.backward import concretised, pull_back
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region as Inputs
from robcert.bounds.linear.program import Program

MOST_INPUTS = 8
"""Halving boxes of more inputs than this does not end."""

_AT_ONCE = 64
_LEAST = 2.0**-20
"""Sides are not halved below this share of the largest number in them: a float32 number or two is left."""


def excluded(
    program: Program,
    inputs: Inputs,
    rows: Tensor,
    needed: Tensor,
    tried: Callable[[Tensor], bool],
    deadline: float,
) -> bool:
    """Decide whether in every input of a box one of some linear functions of the logits is above what it needs.

    Args:
        program: the network.
        inputs: one box.
        rows: (k, classes) float64, the functions.
        needed: (k,).
        tried: is shown the centres of boxes (m, *shape) float64; True ends the search.
        deadline: of `time.monotonic`.
    """
    boxes: list[tuple[float, Tensor, Tensor]] = [(-float("inf"), inputs.lower[0], inputs.upper[0])]
    while boxes:
        boxes.sort(key=lambda box: -box[0])
        taken, boxes = boxes[-_AT_ONCE:], boxes[:-_AT_ONCE]
        low, high = torch.stack([box[1] for box in taken]), torch.stack([box[2] for box in taken])
        if time.monotonic() > deadline or tried((low + high) / 2):
            return False
        margin, a = _bounded(program, low, high, rows, needed)
        for k in (margin <= 0).nonzero().flatten().tolist():
            halves = list(_halved(low[k], high[k], a[k]))
            if not halves:
                return False
            boxes += [(float(margin[k]), *half) for half in halves]
    return True


@torch.no_grad()
def _bounded(program: Program, low: Tensor, high: Tensor, rows: Tensor, needed: Tensor) -> tuple[Tensor, Tensor]:
    """How far the best function stays above its need in each box (m,), and its coefficients (m, *shape)."""
    centre = (low + high) / 2
    reach = torch.maximum(high - centre, centre - low).flatten(1).amax(1)
    found = relax(program, Inputs(centre, reach, "linf", low, high), "crown")
    back = pull_back(found, program.logits, Rows(rows.expand(len(low), *rows.shape).contiguous()))
    bound, _ = concretised(found, back)
    best = (bound - needed - 2.0**-50 * (bound.abs() + needed.abs())).max(1)
    line = back.rows.get(program.images)
    if line is None:
        return best.values, torch.ones_like(low)
    a = line.whole(low.shape[1:]).a
    return best.values, a[torch.arange(len(low)), best.indices]


def _halved(low: Tensor, high: Tensor, a: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The two halves of a box; none where no side can be halved."""
    width = (high - low).flatten()
    wide = width > _LEAST * torch.maximum(low.abs(), high.abs()).flatten()
    if not bool(wide.any()):
        return
    # A side whose line is level may matter all the same: it bends what the line leaves out.
    weight = a.abs().flatten()
    axis = int(((weight + 0.1 * weight.max() + 1e-9) * width * wide).argmax())
    middle = low.flatten()[axis] / 2 + high.flatten()[axis] / 2
    for end, other in ((high, low), (low, high)):
        cut = end.clone()
        cut.view(-1)[axis] = middle
        yield (other, cut) if end is high else (cut, other)
