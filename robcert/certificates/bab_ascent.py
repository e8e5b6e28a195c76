"""Ascent on the slopes of lower lines and the multipliers of conditions (beta-CROWN, Wang et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robcert.bounds.linear.activations import PiecewiseLinear
from robcert.bounds.linear.backward import Relaxation, concretised, pull_back
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.step import Step
from robcert.certificates.bab_branching import Splits, costs

_RATE = 0.25


@dataclass(frozen=True)
class Variables:
    """Where ascent on one subproblem ended: that on its halves begins there.

    Attributes:
        slopes: of lower lines, by the name of the step, (1, *shape) float32.
        betas: multipliers, by the name of the value that has conditions, likewise.
    """

    slopes: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    betas: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True)
class Ascent:
    """The end of an ascent on n subproblems.

    Attributes:
        bound: (n,) float64, the best one.
        scores: `costs` of every ReLU, by the name of the step, at the last iterate.
        variables: of each subproblem.
    """

    bound: Tensor
    scores: dict[str, Tensor]
    variables: list[Variables]


def ascend(
    found: Relaxation,
    row: Tensor,
    splits: Splits,
    before: list[Variables],
    iterations: int,
    enough: Callable[[Tensor, Rows | None], Tensor],
) -> Ascent:
    """Bound a linear function of the logits over subproblems; every iterate is a proof.

    Args:
        found: their relaxation.
        row: (classes,) float64, the function.
        splits: their conditions, (n, *shape).
        before: where ascent begins, for each.
        iterations: of Adam; with one, the bound of where it begins.
        enough: is told the best bounds (n,) and the coefficients of the images, and answers which subproblems need no
            better bound (n,) bool.
    """
    n = len(before)
    slopes, least = dict[str, Tensor](), dict[str, Tensor]()
    for step in found.program.steps:
        if isinstance(step, PiecewiseLinear) and not bool((step.below > 1).any()):
            slope = found.lines(step).lower_slope.unsqueeze(1).clone()
            interval = found.intervals[step.sources[0]]
            loose = (interval.lower < 0) & (interval.upper > 0)
            for k, one in enumerate(before):
                if step.node in one.slopes:
                    slope[k] = torch.where(loose[k], one.slopes[step.node].double(), slope[k])
            slopes[step.node], least[step.node] = slope.requires_grad_(), step.below
    betas = dict[str, Tensor]()
    for name, sign in splits.items():
        if bool(sign.any()):
            beta = torch.zeros(n, 1, *sign.shape[1:], dtype=torch.float64)
            for k, one in enumerate(before):
                if name in one.betas:
                    beta[k] = one.betas[name].double()
            betas[name] = beta.requires_grad_()
    improvable = [*slopes.values(), *betas.values()]
    optimiser = torch.optim.Adam(improvable, lr=_RATE, maximize=True) if improvable else None
    rows = Rows(row.expand(n, 1, -1).contiguous())
    best = torch.full((n,), -float("inf"), dtype=torch.float64)
    scores = dict[str, Tensor]()

    def watch(step: Step, a: Tensor) -> None:
        if isinstance(step, PiecewiseLinear):
            scores[step.node] = costs(found, step, a.detach()[:, 0])

    for turn in range(iterations):
        extra = {name: -splits[name].double().unsqueeze(1) * beta for name, beta in betas.items()}
        back = pull_back(found, found.program.logits, rows, slopes=slopes, extra=extra, watch=watch)
        bound = concretised(found, back)[0][:, 0]
        best = torch.maximum(best, bound.detach())
        going = ~enough(best, back.rows.get(found.program.images))
        # A linear network has nothing to improve: its first bound is its only one.
        if not bool(going.any()) or turn == iterations - 1 or optimiser is None or not bound.requires_grad:
            break
        optimiser.zero_grad()
        bound[going & torch.isfinite(bound)].sum().backward()
        optimiser.step()
        with torch.no_grad():
            for name, slope in slopes.items():
                slope.copy_(torch.minimum(torch.maximum(slope, least[name]), torch.ones_like(slope)))
            for beta in betas.values():
                beta.clamp_(min=0)
    return Ascent(best, scores, [Variables(_row(slopes, k), _row(betas, k)) for k in range(n)])


def _row(values: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    return {name: value[k].detach().float() for name, value in values.items()}
