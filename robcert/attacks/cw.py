"""The attack of Carlini & Wagner (2017): tanh change of variables, Adam, a search over the trade-off c per image."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.options import AT_LEAST_ZERO, COUNT, POSITIVE, check_options
from robcert.attacks.common.tanh_space import adam, next_weight, start, step_on, to_box
from robcert.attacks.common.targets import target_of
from robcert.attacks.losses.margin import towards_margin
from robcert.attacks.protocol import NEAR, Cost, Oracle, Periodic, Problem, among_the_last
from robcert.math.norms import l2_norm, per_image
from robcert.types import ThreatNorm

_RATES: dict[ThreatNorm, tuple[float, float]] = {"l2": (3.0, 0.01), "linf": (0.1, 0.003)}
"""Adam's first and last rate, relative to a typical entry of the perturbation."""

_SHORT, _MOST = 100, 10.0
"""Over fewer iterations the rate falls no faster than over so many, but to ten times its last: where it is small the
search stands still, and a short one has no iterations for that."""


@dataclass(frozen=True)
class CWState:
    """Adam in w, the search over c, and for linf the bracket of the threshold tau.

    Attributes:
        w: (n, *shape), the point in tanh space; ``mean``, ``square``: Adam's moments of the same shape.
        iteration: (n,) float32, iterations of this search step.
        search_step: (n,) int64, search steps that were spent.
        c, c_lower, c_upper: (n,), the trade-off and its bracket; c is 0 until the first gradient sets its scale.
        reach: (n,), how far the linearised model is from its boundary, within reason: the scale of the rates.
        tau, tau_lower: (n,), linf: the threshold, and the largest at which everything failed.
        loss, mark: (n,), the least loss of this search step, now and at the last check for progress.
        hit: (n,) bool, whether this search step fooled the model.
        done: (n,) bool.
    """

    w: Tensor
    mean: Tensor
    square: Tensor
    iteration: Tensor
    search_step: Tensor
    c: Tensor
    c_lower: Tensor
    c_upper: Tensor
    reach: Tensor
    tau: Tensor
    tau_lower: Tensor
    loss: Tensor
    mark: Tensor
    hit: Tensor
    done: Tensor


@attack("cw")
@dataclass(frozen=True)
class CW(Periodic):
    r"""Carlini and Wagner: the smallest perturbation by Adam, with a weight of the margin that is searched for.

    Carlini & Wagner 2017, sections V and VI.

    l2: minimise :math:`\|x(w) - x\|_2^2 + c\,\max(z_y - \max_{j \ne y} z_j + \kappa, 0)` over w, where
    :math:`x(w) = (\tanh w + 1) / 2` scaled to the box; c is searched per image: ten times larger after a failure,
    into its bracket after a success (a failure at 1e15 times the first c leaves one last search step).
    linf: :math:`\sum_i \max(|\delta_i| - \tau, 0) + c\,f` at the first c, where tau begins at the budget and, with
    "minimize", shrinks after each success, from where the success left off. The first failure ends a search that is to
    decide; with "minimize" tau doubles while nothing is known, and is bisected after that.

    What differs from the paper, so that 100 iterations and 1,000,000 are both used well: the first c is per image,
    a multiple of :math:`2 f / \|\nabla f\|^2`, which is the threshold on a linear model (the paper starts every
    image at 0.001 or 0.01, where most of its search steps are too small to move anything, and where multiplying
    the logits changes the attack); the rate is measured in x and not in w, so that a black pixel can move, relative
    to the perturbation that is expected, and falls geometrically over the iterations of a search step; and linf
    bisects tau once it has failed, where the paper raises c.

    Attributes:
        iterations: iterations of one search step (MaxIter in paper A's tables 1 and 2).
        search_steps: l2: the most values of c. linf, with "minimize": the most search steps that fail (those that
            succeed end early); one that is to decide ends with the first.
        confidence: kappa, in the units of the logits.
        learning_rate: the most that an entry of w moves in one iteration.
        initial_c: the first c, relative to the threshold of the linearised model.
        abort_early: end a search step when a tenth of its iterations improved the loss by less than 1e-4 of it.
        targeted: aim at one class, restart r at the r-th most likely wrong one (`cw-t`).
    """

    iterations: int = 1000
    search_steps: int = 9
    confidence: float = 0.0
    learning_rate: float = 0.3
    initial_c: float = 3.0
    abort_early: bool = True
    targeted: bool = False

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2", "linf"})
    paper: ClassVar[str] = "Carlini & Wagner 2017; paper A, tables 1 and 2"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=1)
    searches_to_decide: ClassVar[bool] = True
    """One budget takes several search steps too."""

    def __post_init__(self) -> None:
        # A negative confidence would call a near miss a success, and end a search before there is one.
        rules = {"confidence": AT_LEAST_ZERO, "learning_rate": POSITIVE, "initial_c": POSITIVE}
        check_options(self, search_steps=COUNT, **rules)

    def init(self, problem: Problem) -> CWState:
        """Begin at the clean image; a restart begins at a random point of the ball."""
        number = torch.zeros_like(problem.best)
        infinite = torch.full_like(number, float("inf"))
        begin = self._start(problem)
        tau = torch.full_like(number, problem.threat.largest)
        if problem.goal == "minimize":
            tau = torch.where(problem.best.isfinite(), 0.9 * problem.best, tau)
        return CWState(
            w=begin,
            mean=torch.zeros_like(begin),
            square=torch.zeros_like(begin),
            iteration=number.clone(),
            search_step=torch.zeros_like(problem.y),
            c=number.clone(),
            c_lower=number.clone(),
            c_upper=infinite.clone(),
            reach=number.clone(),
            tau=tau,
            tau_lower=number.clone(),
            loss=infinite.clone(),
            mark=infinite.clone(),
            hit=torch.zeros_like(problem.y, dtype=torch.bool),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: CWState) -> CWState:
        """Take one Adam step in w."""
        low, high = problem.threat.box
        half = (high - low) / 2
        tanh = torch.tanh(state.w)
        scalar = torch.zeros((), dtype=tanh.dtype, device=tanh.device)
        x = torch.add(scalar + (low + half), tanh, alpha=half)
        infinity = problem.threat.norm == "linf"
        target = target_of(problem) if self.targeted else None
        objective = problem.criterion.margin if target is None else partial(towards_margin, target=target)
        evaluation = oracle.value_and_grad(objective, self._clamp(problem, state.tau, x) if infinity else x)
        gap = (self.confidence + evaluation.margin_error - evaluation.value).clamp_min(0)
        fooled = gap <= 0
        first = state.c <= 0
        c, reach = state.c, state.reach
        if not oracle.on_host or bool(first.any()):  # once an image is enough
            first_reach, first_c = self._first(problem, gap, evaluation.gradient)
            c = torch.where(first, first_c, c)
            reach = torch.where(first, first_reach, reach)
        delta = x - problem.x
        if problem.threat.norm == "l2":
            loss = l2_norm(delta).square_().addcmul_(c, gap)
            gradient = delta.mul_(2)
        else:
            beyond = (delta.abs() - per_image(state.tau, delta)).clamp_min_(0)
            loss = beyond.flatten(1).sum(dim=1) + c * gap
            gradient = delta.sign().mul_(beyond > 0)
        # dx/dw = half (1 - tanh^2); the gradient of the gap is minus that of the margin.
        gradient.addcmul_(evaluation.gradient, per_image(c.masked_fill(fooled, 0), delta), value=-1)
        slope = torch.addcmul(scalar + half, tanh, tanh, value=-half)
        gradient.mul_(slope)
        iteration = state.iteration + 1
        rate = self._rate(problem, state.tau if infinity else reach, state.iteration)
        adam(state.w, state.mean, state.square, gradient, slope, rate, self.learning_rate, iteration)
        return replace(
            state,
            c=c,
            reach=reach,
            iteration=iteration,
            loss=torch.fmin(state.loss, loss),
            hit=state.hit | fooled,
        )

    def needs_float32(self, problem: Problem, state: CWState, steps: int = 1) -> Tensor:
        """Return the slots in the last constant (l2), whose search starts anew, or at the end of a search step (linf).

        In l2 also an image that is to be decided and whose closest example is all but within the budget: a constant
        that is chosen with doubt would leave it there.
        """
        if problem.threat.norm == "l2" and self.search_steps > 1:
            last = state.search_step >= self.search_steps - 1
            close = (problem.best >= 0) & (problem.best <= NEAR * problem.threat.largest)
            return last | close if problem.goal == "decide" else last
        return among_the_last(state.iteration, steps, self.iterations)

    def phase(self, problem: Problem, state: CWState) -> CWState:
        """End search steps that are spent or make no progress, and choose the next c (or tau)."""
        ended = (state.iteration >= self.iterations) & ~state.done
        window = max(1, self.iterations // 10)
        looking = (state.iteration % max(window, self.period) == 0) & ~state.done
        if self.abort_early:
            ended = ended | (looking & (state.loss > 0.9999 * state.mark))
        mark = torch.where(looking, state.loss, state.mark)
        state = replace(state, mark=mark)
        if problem.threat.norm == "linf":
            inside = problem.best <= state.tau * (1 + 1e-5)
            ended = (ended | inside) & ~state.done
        if not bool(ended.any()):
            return state
        return (
            self._next_c(problem, state, ended)
            if problem.threat.norm == "l2"
            else self._next_tau(problem, state, ended)
        )

    def proposal(self, problem: Problem, state: CWState) -> Tensor:
        """Return the point that the last step led to."""
        x = to_box(state.w, problem.threat.box)
        return self._clamp(problem, state.tau, x) if problem.threat.norm == "linf" else x

    @staticmethod
    def _clamp(problem: Problem, tau: Tensor, x: Tensor) -> Tensor:
        bound = per_image(tau, x)
        return torch.minimum(torch.maximum(x, problem.x - bound), problem.x + bound)

    def _next_c(self, problem: Problem, state: CWState, ended: Tensor) -> CWState:
        failed = ended & ~state.hit
        lower = torch.where(failed, torch.maximum(state.c_lower, state.c), state.c_lower)
        upper = torch.where(ended & state.hit, torch.minimum(state.c_upper, state.c), state.c_upper)
        c = torch.where(ended, next_weight(state.c, lower, upper, state.search_step), state.c)
        search_step = step_on(state.search_step, ended, failed & (c == state.c), self.search_steps)
        state = replace(state, c=c, c_lower=lower, c_upper=upper, search_step=search_step)
        done = state.done | (ended & (search_step >= self.search_steps))
        return self._restart(replace(state, done=done), ended, self._start(problem))

    def _next_tau(self, problem: Problem, state: CWState, ended: Tensor) -> CWState:
        success = ended & (problem.best <= state.tau * (1 + 1e-5))
        failed = ended & ~success
        lower = torch.where(failed, torch.maximum(state.tau_lower, state.tau), state.tau_lower)
        upper = problem.best
        known = upper.isfinite()
        between = torch.where(known, torch.where(lower > 0, 0.5 * (lower + upper), 0.7 * upper), 2 * state.tau)
        tau = torch.where(ended, between, state.tau)
        search_step = state.search_step + failed
        settled = known & (upper - lower <= 0.004 * upper)
        over = settled | (search_step >= self.search_steps)
        if problem.goal == "decide":
            over = over | failed
        state = replace(state, tau=tau, tau_lower=lower, search_step=search_step, done=state.done | (ended & over))
        kept = torch.where(per_image(success, state.w), state.w, self._start(problem))
        return self._restart(state, ended, kept)

    def _restart(self, state: CWState, ended: Tensor, w: Tensor) -> CWState:
        zero = torch.zeros_like(state.loss)
        infinite = torch.full_like(zero, float("inf"))
        wide = per_image(ended, state.w)
        blank = torch.zeros_like(state.w)
        return replace(
            state,
            w=torch.where(wide, w, state.w),
            mean=torch.where(wide, blank, state.mean),
            square=torch.where(wide, blank, state.square),
            iteration=torch.where(ended, zero, state.iteration),
            loss=torch.where(ended, infinite, state.loss),
            mark=torch.where(ended, infinite, state.mark),
            hit=state.hit & ~ended,
        )

    def _first(self, problem: Problem, gap: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reach and the first c, both (n,): see `CWState`. Without a gradient: the budget, and 1."""
        norm, budget = problem.threat.norm, torch.full_like(gap, problem.threat.largest)
        slope = problem.norm.dual(gradient)
        safe = slope.clamp_min(torch.finfo(slope.dtype).tiny)
        reach = budget
        if problem.goal == "minimize":
            reach = torch.where(
                slope > 0, (gap / safe).clamp(1e-3 * problem.threat.largest, problem.threat.largest), budget
            )
        threshold = 2 * reach / safe if norm == "l2" else gradient[0].numel() / (30 * safe)
        return reach, torch.where(slope > 0, self.initial_c * threshold, torch.ones_like(slope))

    def _rate(self, problem: Problem, reach: Tensor, iteration: Tensor) -> Tensor:
        """Return Adam's rate in x (n,), from several times a typical entry of the perturbation to a hundredth of it.

        The entries of a perturbation of norm r are about r / sqrt(d) in l2 and r in linf.
        """
        if problem.goal == "minimize" and problem.threat.norm == "l2":
            reach = torch.minimum(reach, problem.best)
        typical = reach / (math.sqrt(problem.x[0].numel()) if problem.threat.norm == "l2" else 1.0)
        begin, end = _RATES[problem.threat.norm]
        if self.iterations < _SHORT:
            end = min(begin * (end / begin) ** (self.iterations / _SHORT), _MOST * end)
        return typical * begin * (end / begin) ** (iteration / self.iterations)

    def _start(self, problem: Problem) -> Tensor:
        return start(problem)
