"""The attack of Carlini & Wagner (2017) with the constants of its authors' published code, as paper A ran it."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.tanh_space import from_box, step_on, tens
from robcert.attacks.cw import CW, CWState
from robcert.attacks.protocol import Problem
from robcert.types import ThreatNorm

_INSIDE = 0.999999


@attack("cw-original")
@dataclass(frozen=True)
class CWOriginal(CW):
    r"""Carlini and Wagner in l2 as first published: one rate in w and one first c for all images.

    Adam at a constant rate of 0.01 in w; c begins at 0.001 and is ten times larger after a failure, the mean of
    its bracket after a success; every search step begins at the clean image. So the first search steps move
    nothing, black pixels stay black for hundreds of iterations, and a short sweep flatters the model: it is here
    to compare with published tables, not to evaluate a model. Use ``cw`` for that.

    Attributes:
        iterations: iterations of one search step (MaxIter in paper A's tables 1 and 2).
        search_steps: values of c.
        confidence: kappa, in the units of the logits.
        learning_rate: Adam's rate in w.
        initial_c: the first c.
        abort_early: end a search step when a tenth of its iterations improved the loss by less than 1e-4 of it.
    """

    learning_rate: float = 0.01
    initial_c: float = 0.001

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2"})
    paper: ClassVar[str] = "Carlini & Wagner 2017, with the constants of the authors' code"

    def _first(self, problem: Problem, gap: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        del gradient
        return torch.full_like(gap, problem.threat.largest), torch.full_like(gap, self.initial_c)

    def _rate(self, problem: Problem, reach: Tensor, iteration: Tensor) -> Tensor:
        """Return no bound in x: what is left is ``learning_rate``, the bound in w."""
        del problem, iteration
        return torch.full_like(reach, math.inf)

    def _next_c(self, problem: Problem, state: CWState, ended: Tensor) -> CWState:
        failed = ended & ~state.hit
        lower = torch.where(failed, torch.maximum(state.c_lower, state.c), state.c_lower)
        upper = torch.where(ended & state.hit, torch.minimum(state.c_upper, state.c), state.c_upper)
        grown = tens(state.c, state.search_step)
        c = torch.where(ended, torch.where(upper.isfinite(), 0.5 * (lower + upper), grown), state.c)
        search_step = step_on(state.search_step, ended, failed & (c == state.c), self.search_steps)
        done = state.done | (ended & (search_step >= self.search_steps))
        state = replace(state, c=c, c_lower=lower, c_upper=upper, search_step=search_step, done=done)
        return self._restart(state, ended, self._start(problem))

    def _start(self, problem: Problem) -> Tensor:
        return from_box(problem.x, problem.threat.box, _INSIDE)
