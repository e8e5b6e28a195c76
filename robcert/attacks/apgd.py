"""Auto-PGD: ascent with momentum whose step is halved, from the best point so far, where it stopped paying off."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.budgets import BudgetState, end_search_steps, first_budget
from robcert.attacks.common.options import COUNT, GAP, check_options
from robcert.attacks.common.sparse import sparse_step
from robcert.attacks.losses import losses, objective_of
from robcert.attacks.protocol import Cost, Oracle, Perturbing, Problem, among_the_last
from robcert.math.norms import per_image
from robcert.threats.kind import NORMS
from robcert.types import ThreatNorm

_MOMENTUM = 0.75
"""alpha: the share of the new step; the rest goes where the last one went."""
_RISES = 0.75
"""rho: the share of steps between two checkpoints that must have raised the objective."""
_FIRST, _SHRINK, _SHORTEST = 0.22, 0.03, 0.06
"""The first wait for a checkpoint, by how much each wait is shorter, and the shortest; of all iterations."""
_SPARSE_WAIT, _SPARSE_SHRINK, _SPARSE_LEAST = 0.04, 1.5, 10.0
"""l1: the wait, by what steps and numbers of entries are divided, and the most that a step is."""
_WIDE = ((0.3, 3.0), (0.6, 2.0))
"""l1: until 0.3 of the iterations the ball is 3 times as large, until 0.6 twice."""


@dataclass(frozen=True)
class APGDState(BudgetState):
    """The current point of the climb, its best point, and the next checkpoint.

    Attributes:
        delta, previous: (n, *shape), the perturbation to evaluate, and the one before it.
        top, slope: (n, *shape), the best perturbation of this search step, and the gradient there.
        value, last: (n,), the objective at ``top`` and at the last iterate.
        mark: (n,), the best value at the last checkpoint; ``halved``: (n,) bool, whether that shortened the step.
        rises: (n,), how many steps raised the objective since.
        checkpoint, wait: (n,), the iteration of the next checkpoint, and the wait before it.
        step: (n,), the step length, relative to the budget; ``keep``: (n,), l1: the share of entries that move.
    """

    delta: Tensor
    previous: Tensor
    top: Tensor
    slope: Tensor
    value: Tensor
    last: Tensor
    mark: Tensor
    halved: Tensor
    rises: Tensor
    checkpoint: Tensor
    wait: Tensor
    step: Tensor
    keep: Tensor


@attack("apgd")
@dataclass(frozen=True)
class APGD(Perturbing):
    r"""Auto-PGD: projected gradient steps with momentum that choose their own step size.

    Croce & Hein 2020 (algorithm 1); in l1 Croce & Hein 2021, "Mind the box" (algorithm 1).

    A step is :math:`z = P(x_k + \eta_k\, d(\nabla f(x_k)))`, :math:`x_{k+1} = P(x_k + \alpha (z - x_k) +
    (1 - \alpha)(x_k - x_{k-1}))` with :math:`\alpha = 3/4`, d the steepest unit step of the norm, and
    :math:`\eta_0 = 2\epsilon`. At checkpoints, first after 0.22 of the iterations and then after ever shorter waits,
    the step is halved and the climb goes on from the best point, if fewer than 3/4 of the steps since the last
    checkpoint rose, or if neither the step nor the best value has changed since.

    In l1 there is no momentum; d moves the entries with the largest gradients, evenly, a share of them that follows
    how many entries of the best perturbation are not zero; the step is divided by 1.5 where that number has settled
    and starts anew at :math:`\epsilon`, from the best point, where it has not. The first 30 % of the iterations use the
    ball of :math:`3\epsilon` and the next 30 % that of :math:`2\epsilon`.

    What differs: cross-entropy at the temperature of the image (`robcert.attacks.losses.cross_entropy`), and with
    "minimize" the budget is bisected (`robcert.attacks.common.budgets`), as for pgd. "alternate" forgets the best point
    where it changes the objective. And from the authors' code (AutoAttack): a climb starts uniformly in the ball and
    not on its surface; after a jump back there is no momentum, where theirs goes on from the point before the jump. In
    l1 they wait 4 % of the iterations of each of the three balls (at 100 iterations: one step), and begin each with
    that wait, with the longest step and at the sparsity of its start; here it is 4 % of all iterations, waits and
    sparsity go on from ball to ball, and the first sparsity is 0.3 of the entries, of which 0.2 move.

    Attributes:
        iterations: gradient steps of one search step.
        objective: a loss (`robcert.attacks.losses`).
        targeted: aim at one class, restart r at the r-th most likely wrong one (`apgd-t`).
        search_steps: with "minimize", the most budgets that are tried.
        tolerance: with "minimize", the relative gap between a failed and a successful budget at which to stop.
    """

    iterations: int = 100
    objective: str = "ce"
    targeted: bool = False
    search_steps: int = 20
    tolerance: float = 0.004

    norms: ClassVar[Set[ThreatNorm]] = NORMS
    paper: ClassVar[str] = "Croce & Hein 2020, 2021"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=1)

    def __post_init__(self) -> None:
        losses.get(self.objective)  # refuses a name that no loss has
        check_options(self, search_steps=COUNT, tolerance=GAP)

    def init(self, problem: Problem) -> APGDState:
        """Begin at a random point of the ball."""
        eps = first_budget(problem)
        zeros = torch.zeros_like(eps)
        blank = torch.zeros_like(problem.x)
        state = APGDState(
            delta=blank,
            previous=blank.clone(),
            top=blank.clone(),
            slope=blank.clone(),
            value=zeros,
            last=zeros.clone(),
            mark=zeros.clone(),
            halved=torch.zeros_like(problem.y, dtype=torch.bool),
            rises=zeros.clone(),
            checkpoint=zeros.clone(),
            wait=zeros.clone(),
            step=zeros.clone(),
            keep=zeros.clone(),
            iteration=zeros.clone(),
            eps=eps,
            lower=zeros.clone(),
            search_step=torch.zeros_like(problem.y),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )
        return self._begin(problem, state, torch.ones_like(state.done))

    def step(self, oracle: Oracle, problem: Problem, state: APGDState) -> APGDState:
        """Climb with momentum; at a checkpoint perhaps go back to the best point with half the step."""
        threat = problem.threat
        low, high = threat.box
        x = (problem.x + state.delta).clamp_(low, high)
        late = 2 * state.iteration >= self.iterations
        evaluation = oracle.value_and_grad(objective_of(self.objective, problem, late, self.targeted), x)
        if self.objective == "alternate":
            state = self._forget(problem, state, late)
        better = evaluation.value > state.value
        wide = per_image(better, x)
        state = replace(
            state,
            top=torch.where(wide, state.delta, state.top),
            slope=torch.where(wide, evaluation.gradient, state.slope),
            value=torch.where(better, evaluation.value, state.value),
            rises=state.rises + (evaluation.value > state.last),
            last=evaluation.value,
            iteration=state.iteration + 1,
        )
        eps = state.eps if threat.norm != "l1" else state.eps * _factor((state.iteration - 1) / self.iterations)
        state, back = self._look(problem, state)
        wide = per_image(back, x)
        delta = torch.where(wide, state.top, state.delta)
        gradient = torch.where(wide, state.slope, evaluation.gradient)
        length = per_image(state.step * eps, x)
        if threat.norm == "l1":
            at = problem.x + delta
            room = torch.where(gradient > 0, at < high, at > low)
            moved = delta + length * sparse_step(gradient, state.keep, room)
            # Where the ball has just become smaller the best point lies outside: begin anew from its projection.
            after = state.eps * _factor(state.iteration / self.iterations)
            shrunk = after < eps
            moved = torch.where(per_image(shrunk, x), state.top, moved)
            moved = problem.project(moved, after)
            worst = torch.full_like(state.value, -float("inf"))
            return replace(
                state,
                previous=delta,
                delta=moved,
                value=torch.where(shrunk, worst, state.value),
                step=torch.where(shrunk, torch.ones_like(state.step), state.step),
            )
        at = problem.x + delta
        ahead = problem.project(delta + length * problem.norm.steepest(gradient, at, threat.box), eps)
        share = torch.where(state.iteration == 1, torch.ones_like(eps), torch.full_like(eps, _MOMENTUM))
        share = per_image(share, x)
        before = torch.where(wide, delta, state.previous)
        moved = delta + share * (ahead - delta) + (1 - share) * (delta - before)
        return replace(state, previous=delta, delta=problem.project(moved, eps))

    def needs_float32(self, problem: Problem, state: APGDState, steps: int = 1) -> Tensor:
        """Return the slots in the last of the iterations, whose steps are small."""
        return among_the_last(state.iteration, steps, self.iterations)

    def phase(self, problem: Problem, state: APGDState) -> APGDState:
        """End search steps: with "minimize", go to the next budget of the bisection."""
        state, ended = end_search_steps(problem, state, self.iterations, self.search_steps, self.tolerance)
        return self._begin(problem, state, ended) if bool(ended.any()) else state

    def _forget(self, problem: Problem, state: APGDState, late: Tensor) -> APGDState:
        """Forget the best value where the objective changes, as ``late`` (n,) bool begins: two do not compare."""
        changed = late & (2 * (state.iteration - 1) < self.iterations)
        if not self.targeted:
            changed = changed & (problem.restart % 2 == 0)  # odd restarts climb the margin from the start
        worst = torch.full_like(state.value, -float("inf"))
        return replace(
            state,
            value=torch.where(changed, worst, state.value),
            last=torch.where(changed, worst, state.last),
            mark=torch.where(changed, worst, state.mark),
        )

    def _look(self, problem: Problem, state: APGDState) -> tuple[APGDState, Tensor]:
        """Return new step lengths at checkpoints, and (n,) bool where the climb goes back to its best point."""
        at = state.iteration >= state.checkpoint
        total = float(self.iterations)
        if problem.threat.norm == "l1":
            used = (state.top != 0).flatten(1).float().mean(dim=1)
            settled = used / _SPARSE_SHRINK >= 0.95 * state.keep
            shorter = (state.step / _SPARSE_SHRINK).clamp_min(1 / _SPARSE_LEAST)
            step = torch.where(settled, shorter, torch.ones_like(shorter))
            least = torch.full_like(used, 1 / state.top[0].numel())
            keep = torch.maximum(used / _SPARSE_SHRINK, least)
            # The climb goes on from where it is while that number has settled, as in the authors' code.
            wait, back = state.wait, at & ~settled
        else:
            few = state.rises < _RISES * state.wait
            stuck = ~state.halved & (state.value <= state.mark)
            back = at & (few | stuck)
            step, keep = torch.where(back, state.step / 2, state.step), state.keep
            wait = (state.wait - max(1.0, round(_SHRINK * total))).clamp_min(max(1.0, round(_SHORTEST * total)))
        state = replace(
            state,
            step=torch.where(at, step, state.step),
            keep=torch.where(at, keep, state.keep),
            halved=torch.where(at, back, state.halved),
            mark=torch.where(at, state.value, state.mark),
            rises=torch.where(at, torch.zeros_like(state.rises), state.rises),
            wait=torch.where(at, wait, state.wait),
            checkpoint=torch.where(at, state.checkpoint + wait, state.checkpoint),
        )
        return state, back

    def _begin(self, problem: Problem, state: APGDState, mask: Tensor) -> APGDState:
        """Return a fresh search step in the rows of ``mask``."""
        sparse = problem.threat.norm == "l1"
        first = max(1.0, float(round((_SPARSE_WAIT if sparse else _FIRST) * self.iterations)))
        worst = -float("inf")
        start = problem.random_start(state.eps * (_WIDE[0][1] if sparse else 1.0))
        wide = per_image(mask, start)

        def fill(old: Tensor, value: float) -> Tensor:
            return torch.where(mask, torch.full_like(old, value), old)

        return replace(
            state,
            delta=torch.where(wide, start, state.delta),
            previous=torch.where(wide, start, state.previous),
            top=torch.where(wide, start, state.top),
            slope=torch.where(wide, torch.zeros_like(start), state.slope),
            value=fill(state.value, worst),
            last=fill(state.last, worst),
            mark=fill(state.mark, worst),
            halved=state.halved & ~mask,
            rises=fill(state.rises, 0.0),
            checkpoint=fill(state.checkpoint, first),
            wait=fill(state.wait, first),
            step=fill(state.step, 1.0 if sparse else 2.0),
            keep=fill(state.keep, 0.2),
            iteration=fill(state.iteration, 0.0),
        )


def _factor(progress: Tensor) -> Tensor:
    """Return how many times larger the l1 ball is at this share of the iterations (n,)."""
    factor = torch.ones_like(progress)
    for until, times in reversed(_WIDE):
        factor = torch.where(progress < until, torch.full_like(factor, times), factor)
    return factor
