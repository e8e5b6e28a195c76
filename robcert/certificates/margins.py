"""Lower bounds of the margins of the label's logit over a ball, by intervals and linear bounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.bounds.linear.backward import Relaxation, both_bounds
from robcert.bounds.linear.bounds import Mode, relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.program import Program
from robcert.bounds.linear.step import Adjustable

ITERATIONS = 20
"""Steps of alpha-CROWN."""
_RATE = 0.2
_CLOSE = 8.0
"""Margins in real arithmetic below 0 by less than so many times what rounding costs are bounded once more."""


@dataclass(frozen=True)
class Margins:
    """Lower bounds of f_y - f_j over a region.

    Attributes:
        value: (n, classes) float64, infinite at j = y: of the executed network.
        real: the same in real arithmetic.
        looser: how many of the bounds plain CROWN alone, not met with intervals, would have made looser.
        bounds: how many there are.
    """

    value: Tensor
    real: Tensor
    looser: int = 0
    bounds: int = 0

    @property
    def smallest(self) -> Tensor:
        """(n,): over all other classes, of the executed network."""
        return self.value.amin(1)


def margins(program: Program, region: Region, y: Tensor, mode: Mode, *, alpha: int = 0) -> Margins:
    """Bound all margins of a batch of images.

    Every result is the larger of what intervals and what linear bounds say, so that no method is looser than IBP; the
    differences f_y - f_j are formed in the last layer, as rows of coefficients.

    Args:
        program: the network.
        region: the inputs, of n images.
        y: (n,) int64.
        mode: how intermediate values and margins are bounded.
        alpha: iterations in which the slopes of lower lines of ReLUs are improved, each margin for itself, until it is
            positive.
    """
    with torch.no_grad():
        found = relax(program, region, mode)
        classes = program.shapes[program.logits][0]
        rows = pairs(y, classes)
        value, real = both_bounds(found, program.logits, Rows(rows), to_inputs=False)
        looser = bounds = 0
        if mode != "ibp":
            linear, exact = both_bounds(found, program.logits, Rows(rows))
            looser, bounds = found.tightened[1] + int((linear < value).sum()), found.tightened[0] + value.numel()
            value, real = torch.maximum(value, linear), torch.maximum(real, exact)
        value[torch.arange(len(y)), y] = real[torch.arange(len(y)), y] = torch.inf
    if alpha and mode != "ibp":
        value, real = improved(found, rows, value, real, alpha)
    # Intervals that allow for rounding cost a margin in real arithmetic about as much as rounding itself costs: where
    # that may decide, it is bounded without.
    least = real.amin(1)
    left = ((least <= 0) & (least > -_CLOSE * (least - value.amin(1)))).nonzero().flatten()
    if len(left):
        again = margins(program.exact, region.images(left), y[left], mode, alpha=alpha)
        real[left] = torch.maximum(real[left], again.real)
    return Margins(value, real, looser, bounds)


def pairs(y: Tensor, classes: int) -> Tensor:
    """Rows e_y - e_j: (n, classes, classes) float64."""
    eye = torch.eye(classes, dtype=torch.float64)
    return eye[y.cpu()].unsqueeze(1) - eye


def improved(
    found: Relaxation, rows: Tensor, start: Tensor, real: Tensor, iterations: int, *, enough: float = 0.0
) -> tuple[Tensor, Tensor]:
    """alpha-CROWN: ascent on the parameters of the relaxation (Xu et al. 2021); the best bound of all iterations.

    Whatever they are, the bound is sound; so every iteration counts, and the result is never below what is known.

    Args:
        found: the intervals.
        rows: (n, rows, classes), of the logits.
        start: (n, rows), what is known of the executed network.
        real: the same in real arithmetic.
        iterations: of the ascent, which ends where every bound of the executed network is larger than ``enough``.
        enough: see there.

    Returns:
        The bounds of the executed network and those in real arithmetic.
    """
    free = initial(found, rows.shape[1])
    if not free:
        return start, real
    steps = {step.node: step for step in found.program.steps if isinstance(step, Adjustable)}
    best = start.clone()
    optimiser = torch.optim.Adam(list(free.values()), lr=_RATE, maximize=True)
    for _ in range(iterations):
        bound, exact = both_bounds(found, found.program.logits, Rows(rows), parameters=free)
        best, real = torch.maximum(best, bound.detach()), torch.maximum(real, exact.detach())
        open_ = best <= enough
        if not bool(open_.any()):
            break
        optimiser.zero_grad()
        bound[open_ & torch.isfinite(bound)].sum().backward()
        optimiser.step()
        optimiser.param_groups[0]["lr"] *= 0.95
        with torch.no_grad():
            for name, values in free.items():
                values.copy_(steps[name].confined(values))
    return best, real


def initial(found: Relaxation, count: int) -> dict[str, Tensor]:
    """Return the parameters that CROWN chose, for each of ``count`` rows, where there is a choice."""
    free: dict[str, Tensor] = {}
    for step in found.program.steps:
        own = step.start(found.lines(step)) if isinstance(step, Adjustable) else None
        if own is not None:
            free[step.node] = own.unsqueeze(1).expand(-1, count, *own.shape[1:]).clone().requires_grad_()
    return free
