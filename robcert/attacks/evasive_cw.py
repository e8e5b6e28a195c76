"""Carlini & Wagner's attack with a penalty on the gradient of the loss: it gets past detectors of steep points."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robcert.attacks import attack
from robcert.attacks.common.options import COUNT, POSITIVE, check_options
from robcert.attacks.common.tanh_space import adam, next_weight, start, tens, to_box
from robcert.attacks.protocol import Cost, Oracle, Periodic, Problem
from robcert.math.norms import l2_norm, per_image
from robcert.types import ThreatNorm

_RATE = 3.0, 0.01
"""Adam's first and last rate, relative to a typical entry of the perturbation (as in cw)."""
_FASTEST = 0.3
"""The most that an entry of w moves in one iteration."""


@dataclass(frozen=True)
class EvasiveState:
    """Adam in w, the weight of the margin, and the search over the penalty.

    Attributes:
        w: (n, *shape), the point in tanh space; ``mean``, ``square``: Adam's moments of the same shape.
        iteration: (n,) float32, iterations of this search step.
        search_step: (n,) int64, search steps that were spent.
        c: (n,), the weight of the margin; 0 until the first gradient sets the scale.
        penalty, penalty_lower, penalty_upper: (n,), the weight of the penalty and its bracket.
        reach: (n,), how far the linearised model is from its boundary: the scale of the rates.
        before: (n,), the closest distance that was known when this search step began.
        loss, mark: (n,), the least loss of this search step, now and at the last check for progress.
        fooled: (n,) bool, whether this search step fooled the model.
        done: (n,) bool.
    """

    w: Tensor
    mean: Tensor
    square: Tensor
    iteration: Tensor
    search_step: Tensor
    c: Tensor
    penalty: Tensor
    penalty_lower: Tensor
    penalty_upper: Tensor
    reach: Tensor
    before: Tensor
    loss: Tensor
    mark: Tensor
    fooled: Tensor
    done: Tensor


@attack("evasive-cw")
@dataclass(frozen=True)
class EvasiveCW(Periodic):
    r"""An adaptive attack on detectors that reject images with a large gradient (paper E, section 7).

    It minimises :math:`\|x(w) - x\|_2^2 + c\,\max(z_y - z_t, 0) + \lambda\,\|\nabla\ell_t(x(w))\|_2^2` over w, where
    :math:`x(w)` is tanh(w) scaled to the box, t the largest logit but that of the label y, and :math:`\ell_t` the
    cross-entropy of the class t: in the eyes of a detector, which knows no label, that is the answer. Its gradient is
    differentiated once more.

    :math:`\lambda` is searched per image, with a bracket: smaller after a search step that found a closer example
    which counts, larger after one that did not. Against a detector (`robcert detect`) only examples that it lets pass
    count, so the search ends at the least penalty that both fools and evades. Without one there is nothing to evade,
    and the penalty fades. c is that of cw, and grows tenfold where the model was not fooled.

    Attributes:
        iterations: iterations of one search step.
        search_steps: the most values of the penalty.
        initial_c: c, relative to the threshold of the linearised model.
        initial_penalty: the first penalty, relative to (distance / gradient of the loss)^2 of the linearised model.
        abort_early: end a search step when a tenth of its iterations improved the loss by less than 1e-4 of it.
    """

    iterations: int = 1000
    search_steps: int = 9
    initial_c: float = 3.0
    initial_penalty: float = 30.0
    abort_early: bool = True

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2"})
    paper: ClassVar[str] = "paper E (Finlay et al.), section 7 and table 6"
    cost: ClassVar[Cost] = Cost(forwards=2, backwards=3)
    searches_to_decide: ClassVar[bool] = True
    """One budget takes several search steps too."""
    evades: ClassVar[bool] = True
    """It is run against the detector, where there is one."""

    def __post_init__(self) -> None:
        check_options(self, search_steps=COUNT, initial_c=POSITIVE, initial_penalty=POSITIVE)

    def init(self, problem: Problem) -> EvasiveState:
        """Begin at the clean image; a restart begins at a random point of the ball."""
        number = torch.zeros_like(problem.best)
        infinite = torch.full_like(number, float("inf"))
        begin = start(problem)
        no = torch.zeros_like(problem.y, dtype=torch.bool)
        return EvasiveState(
            w=begin,
            mean=torch.zeros_like(begin),
            square=torch.zeros_like(begin),
            iteration=number.clone(),
            search_step=torch.zeros_like(problem.y),
            c=number.clone(),
            penalty=number.clone(),
            penalty_lower=number.clone(),
            penalty_upper=infinite.clone(),
            reach=number.clone(),
            before=problem.best.clone(),
            loss=infinite.clone(),
            mark=infinite.clone(),
            fooled=no,
            done=no.clone(),
        )

    def step(self, oracle: Oracle, problem: Problem, state: EvasiveState) -> EvasiveState:
        """Take one Adam step in w."""
        low, high = problem.threat.box
        half = (high - low) / 2
        tanh = torch.tanh(state.w)
        x = low + half + half * tanh
        evaluation = oracle.value_and_grad(problem.criterion.margin, x)
        steep = oracle.hvp(answer_loss, x, lambda gradient: 2 * gradient)
        gap = (-evaluation.value).clamp_min(0)
        size = l2_norm(steep.gradient).square()
        first = state.c <= 0
        first_reach, first_c, first_penalty = self._first(problem, gap, evaluation.gradient, size)
        c = torch.where(first, first_c, state.c)
        reach = torch.where(first, first_reach, state.reach)
        penalty = torch.where(first, first_penalty, state.penalty)
        delta = x - problem.x
        loss = delta.flatten(1).square().sum(dim=1) + c * gap + penalty * size
        pull = torch.where(gap > 0, c, torch.zeros_like(c))
        gradient = 2 * delta - per_image(pull, x) * evaluation.gradient + per_image(penalty, x) * steep.product
        slope = half * (1 - tanh.square())
        gradient = gradient * slope
        iteration = state.iteration + 1
        begin, end = _RATE
        typical = reach / math.sqrt(problem.x[0].numel())
        rate = typical * begin * (end / begin) ** (state.iteration / self.iterations)
        adam(state.w, state.mean, state.square, gradient, slope, rate, _FASTEST, iteration)
        return replace(
            state,
            iteration=iteration,
            c=c,
            penalty=penalty,
            reach=reach,
            loss=torch.fmin(state.loss, loss),
            fooled=state.fooled | (gap <= 0),
        )

    def phase(self, problem: Problem, state: EvasiveState) -> EvasiveState:
        """End search steps that are spent or make no progress, and choose the next penalty."""
        ended = (state.iteration >= self.iterations) & ~state.done
        window = max(1, self.iterations // 10)
        looking = (state.iteration % max(window, self.period) == 0) & ~state.done
        if self.abort_early:
            ended = ended | (looking & (state.loss > 0.9999 * state.mark))
        state = replace(state, mark=torch.where(looking, state.loss, state.mark))
        if not bool(ended.any()):
            return state
        success = ended & (problem.best < state.before)
        failed = ended & ~success
        lower = torch.where(failed, torch.maximum(state.penalty_lower, state.penalty), state.penalty_lower)
        upper = torch.where(success, torch.minimum(state.penalty_upper, state.penalty), state.penalty_upper)
        penalty = torch.where(ended, next_weight(state.penalty, lower, upper, state.search_step), state.penalty)
        search_step = state.search_step + ended
        wide, zero = per_image(ended, state.w), torch.zeros_like(state.w)
        # With a smaller penalty the way on leads back from where the last one ended; after a failure, from the start.
        anew = per_image(failed, state.w)
        infinite = torch.full_like(state.loss, float("inf"))
        return replace(
            state,
            w=torch.where(anew, start(problem), state.w),
            mean=torch.where(wide, zero, state.mean),
            square=torch.where(wide, zero, state.square),
            iteration=torch.where(ended, torch.zeros_like(state.iteration), state.iteration),
            search_step=search_step,
            c=torch.where(failed & ~state.fooled, tens(state.c, state.search_step), state.c),
            penalty=penalty,
            penalty_lower=lower,
            penalty_upper=upper,
            before=torch.where(ended, problem.best, state.before),
            loss=torch.where(ended, infinite, state.loss),
            mark=torch.where(ended, infinite, state.mark),
            fooled=state.fooled & ~ended,
            done=state.done | (ended & (search_step >= self.search_steps)),
        )

    def proposal(self, problem: Problem, state: EvasiveState) -> Tensor:
        """Return the point that the last step led to."""
        return to_box(state.w, problem.threat.box)

    def _first(self, problem: Problem, gap: Tensor, gradient: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reach, c and the first penalty, (n,) each. Without a gradient: the budget, 1 and 1."""
        budget = torch.full_like(gap, problem.threat.largest)
        tiny = torch.finfo(gap.dtype).tiny
        slope = l2_norm(gradient)
        reach = (gap / slope.clamp_min(tiny)).clamp(1e-3 * problem.threat.largest, problem.threat.largest)
        reach = torch.where(slope > 0, reach, budget)
        c = torch.where(slope > 0, self.initial_c * 2 * reach / slope.clamp_min(tiny), torch.ones_like(slope))
        penalty = self.initial_penalty * reach.square() / size.clamp_min(tiny)
        return reach, c, torch.where(size > 0, penalty.clamp_max(1e30), torch.ones_like(size))


def answer_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return cross-entropy (n,) of the largest logit but that of the label: of the answer, once it is wrong."""
    answer = logits.detach().scatter(1, y.view(-1, 1), float("-inf")).argmax(dim=1)
    return functional.cross_entropy(logits, answer, reduction="none")
