"""Ascent on the parameters of relaxations and the multipliers of conditions (beta-CROWN, Wang et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robcert.bounds.linear.backward import Relaxation, concretised, pull_back
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.step import Adjustable, Step
from robcert.certificates.bab_branching import Scores, Splits, scored

_RATE = 0.25


@dataclass(frozen=True)
class Variables:
    """Where ascent on one subproblem ended: that on its halves begins there.

    Attributes:
        free: parameters of relaxations, by the name of the step, (1, *any) float32.
        betas: multipliers, by the name of the value that has conditions, likewise.
    """

    free: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    betas: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True)
class Ascent:
    """The end of an ascent on n subproblems.

    Attributes:
        bound: (n,) float64, the best one.
        scores: what each split may be worth, at the last iterate.
        variables: of each subproblem.
    """

    bound: Tensor
    scores: Scores
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
    steps = {step.node: step for step in found.program.steps if isinstance(step, Adjustable)}
    free = dict[str, Tensor]()
    for name, step in steps.items():
        own = step.start(found.lines(step), _known(step, found, [one.free.get(name) for one in before]))
        if own is not None:
            free[name] = own.unsqueeze(1).clone().requires_grad_()
    betas = dict[str, Tensor]()
    for name, sign in splits.items():
        if bool(sign.any()):
            beta = torch.zeros(n, 1, *sign.shape[1:], dtype=torch.float64)
            for k, one in enumerate(before):
                if name in one.betas:
                    beta[k] = one.betas[name].double()
            betas[name] = beta.requires_grad_()
    improvable = [*free.values(), *betas.values()]
    optimiser = torch.optim.Adam(improvable, lr=_RATE, maximize=True) if improvable else None
    rows = Rows(row.expand(n, 1, -1).contiguous())
    best = torch.full((n,), -float("inf"), dtype=torch.float64)
    coefficients = dict[str, Tensor]()

    def watch(step: Step, a: Tensor) -> None:
        coefficients[step.node] = a.detach()[:, 0]

    for turn in range(iterations):
        extra = {name: -splits[name].double().unsqueeze(1) * beta for name, beta in betas.items()}
        back = pull_back(found, found.program.logits, rows, parameters=free, extra=extra, watch=watch)
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
            for name, values in free.items():
                values.copy_(steps[name].confined(values))
            for beta in betas.values():
                beta.clamp_(min=0)
    scores = scored(found, coefficients, free)
    return Ascent(best, scores, [Variables(_row(free, k), _row(betas, k)) for k in range(n)])


def _known(step: Adjustable, found: Relaxation, ends: list[Tensor | None]) -> Tensor | None:
    """Return where the ascents on the parents ended, one below the other; None where none of them had a choice."""
    if all(end is None for end in ends):
        return None
    own = step.start(found.lines(step)) if any(end is None for end in ends) else None
    rows = [own[k : k + 1] if end is None and own is not None else end for k, end in enumerate(ends)]
    known = [row.double() for row in rows if row is not None]
    return torch.cat(known) if len(known) == len(ends) else None


def _row(values: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    return {name: value[k].detach().float() for name, value in values.items()}
