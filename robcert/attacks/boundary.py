"""The boundary attack (Brendel et al. 2018): a walk along the decision boundary that asks for answers only."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.options import BETWEEN, check_options
from robcert.attacks.protocol import Cost, Oracle, Periodic, Problem
from robcert.math.norms import l2_norm, per_image
from robcert.math.rng import SampleRng
from robcert.types import ThreatNorm

_BISECTIONS = 12
_WINDOW = 20.0
"""Over about how many proposals success rates are averaged."""
_AROUND, _TOWARDS = 0.4, 0.5
"""The share of steps along the sphere, and of those also towards the image, that are to succeed."""
_LEAST = 1e-5
"""The smallest step, relative to the distance: float32 cannot tell smaller ones apart."""


@dataclass(frozen=True)
class BoundaryState:
    """A misclassified point and the step lengths.

    Attributes:
        point: (n, *shape), the closest misclassified point of this walk (the image until there is one).
        clean: (n, *shape), while bisecting: the point of the line to the image that is answered right.
        iteration: (n,) float32.
        found: (n,) bool, whether ``point`` is misclassified.
        bisected: (n,) float32, bisections that were done.
        around, towards: (n,), lengths of the two steps, relative to the distance.
        around_rate, towards_rate: (n,), their success rates of late.
        done: (n,) bool.
    """

    point: Tensor
    clean: Tensor
    iteration: Tensor
    found: Tensor
    bisected: Tensor
    around: Tensor
    towards: Tensor
    around_rate: Tensor
    towards_rate: Tensor
    done: Tensor


@attack("boundary")
@dataclass(frozen=True)
class Boundary(Periodic):
    r"""Boundary attack: no gradients and no logits, only whether the answer is wrong.

    Brendel, Rauber & Bethge 2018, section 2.

    From a misclassified point (noise, brought to the boundary by bisection) each iteration proposes a step along the
    sphere around the image, :math:`\|\eta\| = \delta d` with :math:`\eta` normal and orthogonal to the direction of
    the image, and from there a step :math:`\epsilon d` towards the image, d being the distance; the proposal is kept
    where it is misclassified. :math:`\delta` is adapted so that about half of the steps along the sphere stay
    misclassified (the boundary looks flat at that length), :math:`\epsilon` so that half of these do after the step
    towards the image.

    What differs from the paper: both points are asked for in every iteration, so that both lengths adapt at once, and
    a walk starts from several kinds of noise, so that images of the class that noise is taken for have a start too.
    The distance to a flat boundary falls by 1/e about every 4 d iterations, d the entries of an image; between the
    faces of several classes a walk ends at the one it met first, and restarts find others.

    Attributes:
        iterations: proposals; those that look for a start and bisect are among them.
        around: the first step along the sphere, relative to the distance.
        towards: the first step towards the image, likewise.
    """

    iterations: int = 5000
    around: float = 0.1
    towards: float = 0.1

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2"})
    paper: ClassVar[str] = "Brendel, Rauber & Bethge 2018; paper E, tables 2, 3 and 6"
    cost: ClassVar[Cost] = Cost(forwards=2, backwards=0)

    def __post_init__(self) -> None:
        check_options(self, around=BETWEEN, towards=BETWEEN)

    def init(self, problem: Problem) -> BoundaryState:
        """Begin where nothing misclassified is known."""
        zero = torch.zeros_like(problem.best)
        no = torch.zeros_like(problem.y, dtype=torch.bool)
        return BoundaryState(
            point=problem.x.clone(),
            clean=problem.x.clone(),
            iteration=zero,
            found=no,
            bisected=zero.clone(),
            around=torch.full_like(zero, self.around),
            towards=torch.full_like(zero, self.towards),
            around_rate=torch.full_like(zero, 0.5),
            towards_rate=torch.full_like(zero, 0.25),
            done=no.clone(),
        )

    def step(self, oracle: Oracle, problem: Problem, state: BoundaryState) -> BoundaryState:
        """Look for a start, or halve the line to the image, or walk: each image does its own."""
        searching = ~state.found
        bisecting = state.found & (state.bisected < _BISECTIONS)
        walking = state.found & ~bisecting
        around, towards = self._proposals(problem, state)
        middle = 0.5 * (state.clean + state.point)
        first = torch.where(per_image(walking, around), around, middle)
        starting = not oracle.on_host or bool(searching.any())  # most of the time all walk
        if starting:
            first = torch.where(per_image(searching, first), _noise(problem, state.iteration), first)
        first_wrong = problem.criterion.margin(oracle.logits(first), problem.y) > 0
        second = torch.where(per_image(walking, towards), towards, first)
        if starting:
            second = torch.where(per_image(searching, second), _noise(problem, state.iteration + 0.5), second)
        second_wrong = problem.criterion.margin(oracle.logits(second), problem.y) > 0

        # A start is the first draw that is wrong; the line to the image keeps a wrong end and a right one.
        clean = torch.where(per_image(bisecting & ~first_wrong, middle), middle, state.clean)
        taken = (searching | bisecting) & first_wrong
        point = torch.where(per_image(taken, first), first, state.point)
        taken = (walking | (searching & ~first_wrong)) & second_wrong
        point = torch.where(per_image(taken, second), second, point)
        found = state.found | first_wrong | second_wrong

        # Exponential averages, and steps that grow while more than the aimed share succeeds.
        around_rate = torch.where(
            walking, state.around_rate + (first_wrong.float() - state.around_rate) / _WINDOW, state.around_rate
        )
        tried = walking & first_wrong
        towards_rate = torch.where(
            tried, state.towards_rate + (second_wrong.float() - state.towards_rate) / _WINDOW, state.towards_rate
        )
        grown = torch.where(walking, torch.exp((around_rate - _AROUND) * 0.2), 1.0)
        nearer = torch.where(tried, torch.exp((towards_rate - _TOWARDS) * 0.2), 1.0)
        return replace(
            state,
            point=point,
            clean=clean,
            iteration=state.iteration + 1,
            found=found,
            bisected=state.bisected + bisecting.float(),
            around=(state.around * grown).clamp(_LEAST, 1.0),
            towards=(state.towards * nearer).clamp(_LEAST, 0.9),
            around_rate=around_rate,
            towards_rate=towards_rate,
        )

    def phase(self, problem: Problem, state: BoundaryState) -> BoundaryState:
        """Done when the proposals are spent, or no step that float32 can tell apart leads closer."""
        spent = state.iteration >= self.iterations
        stuck = state.found & (state.towards <= _LEAST) & (state.around <= _LEAST)
        return replace(state, done=state.done | spent | stuck)

    def proposal(self, problem: Problem, state: BoundaryState) -> Tensor:
        """Return the point of the walk."""
        return state.point

    def _proposals(self, problem: Problem, state: BoundaryState) -> tuple[Tensor, Tensor]:
        """Return a point on the sphere through the current one, and it moved towards the image; inside the box."""
        low, high = problem.threat.box
        back = state.point - problem.x
        distance = l2_norm(back)
        unit = back / per_image(distance.clamp_min(1e-30), back)
        step = _stream(problem, state.iteration).normal(tuple(problem.x.shape[1:]), 7)
        step = step - per_image((step * unit).flatten(1).sum(dim=1), unit) * unit
        length = state.around * distance / l2_norm(step).clamp_min(1e-30)
        moved = back + step * per_image(length, step)
        moved = moved * per_image(distance / l2_norm(moved).clamp_min(1e-30), moved)
        around = (problem.x + moved).clamp(low, high)
        towards = around + per_image(state.towards, around) * (problem.x - around)
        return around, towards


def _stream(problem: Problem, iteration: Tensor) -> SampleRng:
    """Return one stream an image and iteration; two restarts share none of 2^31 iterations."""
    restart = problem.restart * (1 << 32) + (2 * iteration).long() + 1
    return SampleRng(problem.seed, problem.index, restart)


def _noise(problem: Problem, iteration: Tensor) -> Tensor:
    """Return another draw an iteration, in turn: grey, black and white noise, a plain image, the image under noise."""
    low, high = problem.threat.box
    stream = _stream(problem, iteration)
    shape = tuple(problem.x.shape[1:])
    grey = stream.uniform(shape, 1)
    share = per_image(stream.uniform((1,), 2).flatten(), grey)
    turn = per_image((2 * iteration).long() % 4, grey)
    noise = torch.where(turn == 1, (grey < share).to(grey.dtype), grey)
    noise = torch.where(turn == 2, share, noise)
    drawn = low + (high - low) * noise
    return torch.where(turn == 3, problem.x + share * (drawn - problem.x), drawn)
