"""The square attack: random search that changes one square at a time and keeps what lowers the margin."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.budgets import BudgetState, end_search_steps, first_budget
from robcert.attacks.common.options import COUNT, GAP, UP_TO_ONE, check_options
from robcert.attacks.common.windows import Window, bump, image_shape, window
from robcert.attacks.protocol import Cost, Oracle, Periodic, Problem
from robcert.math.norms import l2_norm, per_image
from robcert.math.rng import SampleRng
from robcert.types import ThreatNorm

_HALVINGS: dict[ThreatNorm, tuple[int, ...]] = {
    "l2": (10, 50, 200, 1000, 2000, 4000, 6000, 8000),
    "linf": (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000),
}
"""After so many of 10,000 iterations the area of a square is halved; of fewer, after the same shares of them, as in the
paper, which has those of l2. AutoAttack's code halves at 500 as well, and with nine halvings the last squares of an
MNIST image are single pixels and not four; in linf that breaks images which others leave, in l2 nothing was seen to
come of it. (AutoAttack's standard version rescales nothing: its 5,000 queries end half way, after seven halvings.)"""


@dataclass(frozen=True)
class SquareState(BudgetState):
    """The best perturbation and its margin.

    Attributes:
        delta: (n, *shape).
        value: (n,), the margin there; -inf before the first answer.
        draw: (n,) int64, all proposals so far.
    """

    delta: Tensor
    value: Tensor
    draw: Tensor


@attack("square")
@dataclass(frozen=True)
class Square(Periodic):
    r"""Square attack: no gradients, only logits.

    Andriushchenko, Croce, Flammarion & Hein 2020, algorithms 1 to 3.

    linf: it starts at vertical stripes of :math:`\pm\epsilon` and proposes a square whose channels are each set to
    :math:`+\epsilon` or :math:`-\epsilon`. l2: it starts at a grid of bumps and proposes to move the length that one
    square has, together with what is left of the budget, into a bump of random sign in another. A proposal is kept
    where it raises the margin. The side of the square is the root of a share of the pixels that begins at ``share``
    and is halved nine times in linf and eight times in l2, early on more often. Images that are vectors are one row of
    pixels.

    What differs from the authors' code: in l2 a side may be even, and as small as 1; theirs is odd and at least 3.

    Attributes:
        iterations: proposals at one budget.
        share: the share of the pixels that the first square covers.
        search_steps: with "minimize", the most budgets that are tried.
        tolerance: with "minimize", the relative gap between a failed and a successful budget at which to stop.
    """

    iterations: int = 5000
    share: float = 0.8
    search_steps: int = 10
    tolerance: float = 0.01

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2", "linf"})
    paper: ClassVar[str] = "Andriushchenko et al. 2020"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=0)

    def __post_init__(self) -> None:
        check_options(self, share=UP_TO_ONE, search_steps=COUNT, tolerance=GAP)

    def init(self, problem: Problem) -> SquareState:
        """Begin before the first answer."""
        eps = first_budget(problem)
        zeros = torch.zeros_like(eps)
        return SquareState(
            delta=torch.zeros_like(problem.x),
            value=torch.full_like(eps, -float("inf")),
            draw=torch.zeros_like(problem.y),
            iteration=zeros,
            eps=eps,
            lower=zeros.clone(),
            search_step=torch.zeros_like(problem.y),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: SquareState) -> SquareState:
        """Propose, ask, keep or drop."""
        proposed = self._propose(problem, state)
        low, high = problem.threat.box
        value = problem.criterion.margin(oracle.logits((problem.x + proposed).clamp_(low, high)), problem.y)
        better = value > state.value
        return replace(
            state,
            delta=torch.where(per_image(better, proposed), proposed, state.delta),
            value=torch.where(better, value, state.value),
            draw=state.draw + 1,
            iteration=state.iteration + 1,
        )

    def phase(self, problem: Problem, state: SquareState) -> SquareState:
        """End search steps: with "minimize", go to the next budget of the bisection."""
        state, ended = end_search_steps(problem, state, self.iterations, self.search_steps, self.tolerance)
        return replace(state, value=torch.where(ended, torch.full_like(state.value, -float("inf")), state.value))

    def proposal(self, problem: Problem, state: SquareState) -> Tensor:
        """Return the point that the next step tries."""
        return problem.x + self._propose(problem, state)

    def _propose(self, problem: Problem, state: SquareState) -> Tensor:
        """Return the perturbation (n, *shape) to try; the first of a search step is a start."""
        shape = image_shape(problem.x)
        rng = problem.rng.at(state.draw)
        delta = state.delta.view(-1, *shape)
        side = self._side(state.iteration, shape, problem.threat.norm)
        if problem.threat.norm == "linf":
            start = _stripes(rng, shape)
            moved = _recolour(rng, delta, side, state.eps)
            start = start * per_image(state.eps, start)
        else:
            start = _grid(rng, shape)
            start = start * per_image(state.eps / l2_norm(start).clamp_min(1e-12), start)
            moved = _move_mass(rng, delta, side, state.eps)
        begins = per_image(state.iteration == 0, delta)
        tried = torch.where(begins, start, moved).view(problem.x.shape)
        return problem.project(tried, state.eps)

    def _side(self, iteration: Tensor, shape: tuple[int, int, int], norm: ThreatNorm) -> Tensor:
        """Return (n,) int64: the side of the square, or for a single row its length."""
        at = iteration * (10_000 / self.iterations)
        halved = torch.stack([at > bound for bound in _HALVINGS[norm]]).sum(dim=0)
        area = self.share * 0.5**halved * (shape[1] * shape[2])
        side = area if min(shape[1:]) == 1 else area.sqrt()
        return side.round().long().clamp(1, max(1, min(shape[1:]) - 1 if min(shape[1:]) > 1 else max(shape[1:]) - 1))


def _signs(rng: SampleRng, shape: tuple[int, ...], tag: int) -> Tensor:
    return torch.where(rng.uniform(shape, tag) < 0.5, -1.0, 1.0)


def _stripes(rng: SampleRng, shape: tuple[int, int, int]) -> Tensor:
    """Return vertical stripes of -1 and 1, one pixel wide: (n, channels, height, width)."""
    return _signs(rng, (shape[0], 1, shape[2]), 0).expand(-1, *shape)


def _recolour(rng: SampleRng, delta: Tensor, side: Tensor, eps: Tensor) -> Tensor:
    """Return the perturbation with one square set to plus or minus eps, channel by channel."""
    colour = _signs(rng, (delta.shape[1], 1, 1), 1) * per_image(eps, delta)
    return torch.where(window(rng, delta, side, 2).inside, colour, delta)


def _grid(rng: SampleRng, shape: tuple[int, int, int]) -> Tensor:
    """Return bumps of random signs on a grid of about five by five: (n, channels, height, width)."""
    cells = [max(1, math.ceil(size / 5)) for size in shape[1:]]
    signs = _signs(rng, (shape[0], math.ceil(shape[1] / cells[0]), math.ceil(shape[2] / cells[1])), 0)
    signs = signs.repeat_interleave(cells[0], dim=2).repeat_interleave(cells[1], dim=3)
    height = [1 / (1 + (torch.arange(size, device=signs.device) % cell - (cell - 1) / 2).abs()).square()
              for size, cell in zip(shape[1:], cells, strict=True)]  # fmt: skip
    return signs[:, :, : shape[1], : shape[2]] * height[0].view(-1, 1) * height[1]


def _move_mass(rng: SampleRng, delta: Tensor, side: Tensor, eps: Tensor) -> Tensor:
    """Move the length of one square, and what is left of eps, into a bump in another (algorithm 3)."""
    into, out_of = window(rng, delta, side, 2), window(rng, delta, side, 4)
    channels = delta.shape[1]

    def length(at: Window) -> Tensor:
        return (delta.square() * at.inside).flatten(2).sum(dim=2).sqrt()  # (n, channels)

    unused = (eps.square() - delta.flatten(1).square().sum(dim=1)).clamp_min(0) / channels
    both = (delta.square() * (into.inside | out_of.inside)).flatten(2).sum(dim=2)
    available = (both + unused.view(-1, 1)).sqrt()
    shape = bump(rng, into, side) * _signs(rng, (channels, 1, 1), 6)
    now = delta * into.inside / length(into).clamp_min(1e-12)[..., None, None]
    mixed = shape + now
    mixed = mixed / mixed.flatten(2).norm(dim=2).clamp_min(1e-12)[..., None, None] * available[..., None, None]
    kept = torch.where(out_of.inside, torch.zeros_like(delta), delta)
    return torch.where(into.inside, mixed, kept)
