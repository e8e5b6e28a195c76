r"""Branch and bound: decides small networks of ReLUs (two-sided ones too) and max pooling exactly.

Max pooling is split on which of two entries is the larger (`robcert.bounds.linear.comparisons`). A ReLU whose input z
may have either sign is split: on each side it is linear. The condition enters the bound by a multiplier (beta-CROWN,
Wang et al. 2021): on :math:`\{s z \ge 0\}` and for any :math:`\beta \ge 0`,

.. math:: f \ge f - \beta s z,

so that slopes and multipliers can be improved by ascent while every iterate is a proof. Where no relaxed ReLU takes
part any more, the rest is a convex programme (`robcert.certificates.bab_leaf`): its multipliers, evaluated like all
others with rounding included, prove the bound, or its solution is a point where f is as small as the bound. So the
solver is trusted with nothing. Subproblems are taken lowest bound first, in batches; every minimiser that comes up is
tried as an adversarial example. A point that is below what a proof needs and yet is none (a proof needs more than
rounding can take away) ends nothing: the search goes on with a smaller subproblem.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from robcert.bounds.linear.activations import PiecewiseLinear
from robcert.bounds.linear.backward import ENTRIES, Relaxation, concretised, pull_back
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.comparisons import compared, is_maximum
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.program import Program
from robcert.bounds.linear.step import Interval, Step
from robcert.certificates.bab_leaf import solve_leaf

Status = Literal["certified", "broken", "open"]
Splits = dict[str, Tensor]
"""Name of the input of a ReLU -> 1 (not negative), -1 (not positive) or 0 (any) for each entry: (*shape) int8."""

_ITERATIONS = 12
_RATE = 0.25
_BATCH = 64


@dataclass(frozen=True)
class Outcome:
    """The smallest value of a linear function of the logits over a region, from below and from above.

    Attributes:
        status: certified (it is above what is needed), broken (there is an example), or open.
        lower: a proven lower bound.
        upper: the smallest value at any point that was tried.
        point: the example, (*shape) float64; None unless broken.
        nodes: subproblems that were bounded.
    """

    status: Status
    lower: float
    upper: float
    point: Tensor | None
    nodes: int


def splittable(program: Program) -> bool:
    """Return whether all that is not linear in the network is ReLU, two-sided or not, and max pooling."""
    return all(step.affine or isinstance(step, PiecewiseLinear) or is_maximum(step) for step in program.steps)


def decide(
    program: Program,
    region: Region,
    row: Tensor,
    needed: float,
    value: Callable[[Tensor], Tensor],
    *,
    example: Callable[[Tensor], Tensor] | None = None,
    seconds: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
    root: Relaxation | None = None,
) -> Outcome:
    """Decide whether a linear function of the logits stays above ``needed`` over a region.

    Args:
        program: a network for which `splittable` holds.
        region: of one image.
        row: (classes,) float64, the function.
        needed: what it has to exceed.
        value: points (m, *shape) float64 -> the function there (m,).
        example: points (m, *shape) float64 -> which of them are adversarial examples (m,) bool; only those whose value
            is not above ``needed`` are asked about, the smallest first. By default all of these are.
        seconds: after which what is left is open.
        clock: by which they pass.
        root: the relaxation of the region, where it is known; of the network without max pooling.
    """
    if any(is_maximum(step) for step in program.steps):
        program, root = compared(program), None
    if root is None:
        with torch.no_grad():
            root = relax(program, region, "crown")
    deadline = clock() + seconds
    return _Search(program, region, row, needed, value, example or _every, lambda: clock() > deadline, root).run()


def _every(points: Tensor) -> Tensor:
    return torch.ones(len(points), dtype=torch.bool)


class _Search:
    def __init__(
        self,
        program: Program,
        region: Region,
        row: Tensor,
        needed: float,
        value: Callable[[Tensor], Tensor],
        example: Callable[[Tensor], Tensor],
        late: Callable[[], bool],
        root: Relaxation,
    ) -> None:
        self.program, self.region, self.row, self.needed = program, region, row, needed
        self.value, self.example, self.late, self.root = value, example, late, root
        self.names = list(dict.fromkeys(step.sources[0] for step in program.steps if not step.affine))
        self.upper = float("inf")
        self.point: Tensor | None = None
        self.nodes = 0
        self.batch = max(1, min(_BATCH, ENTRIES // (4 * program.widest)))

    def run(self) -> Outcome:
        empty = {name: torch.zeros(self.program.shapes[name], dtype=torch.int8) for name in self.names}
        ties = itertools.count()
        heap: list[tuple[float, int, Splits]] = [(-float("inf"), next(ties), empty)]
        stuck = float("inf")
        while heap:
            if self.point is not None:
                return self._outcome("broken", min(heap[0][0], stuck))
            if self.late():
                return self._outcome("open", min(heap[0][0], stuck))
            taken = [heapq.heappop(heap) for _ in range(min(self.batch, len(heap)))]
            for bound, splits, child in self._bounded([t[2] for t in taken], [t[0] for t in taken]):
                if bound > self.needed:
                    continue
                if child is None:
                    stuck = min(stuck, bound)
                    continue
                name, index = child
                for sign in (1, -1):
                    half = {k: v.clone() if k == name else v for k, v in splits.items()}
                    half[name].view(-1)[index] = sign
                    heapq.heappush(heap, (bound, next(ties), half))
        if self.point is not None:
            return self._outcome("broken", stuck)
        return self._outcome("certified" if stuck > self.needed else "open", stuck)

    def _outcome(self, status: Status, lower: float) -> Outcome:
        # With nothing left below what is needed, all that is known is that everything is above it.
        lower = max(self.needed * (1 + 2.0**-40) + 1e-300, self.needed) if status == "certified" else lower
        return Outcome(status, lower, self.upper, self.point, self.nodes)

    def _bounded(self, batch: list[Splits], known: list[float]) -> list[tuple[float, Splits, tuple[str, int] | None]]:
        """Bounds of subproblems, and where to split each; None where there is nothing left to split."""
        n = len(batch)
        self.nodes += n
        splits = {name: torch.stack([s[name] for s in batch]) for name in self.names}
        found = self._relaxed(splits, n)
        empty = torch.zeros(n, dtype=torch.bool)
        for name in self.names:
            interval = found.intervals[name]
            empty |= (interval.lower > interval.upper).flatten(1).any(1)
        best, scores = self._ascend(found, splits, n)
        best = torch.maximum(best, torch.tensor(known, dtype=torch.float64))
        best[empty] = float("inf")
        answers: list[tuple[float, Splits, tuple[str, int] | None]] = []
        for k in range(n):
            bound, child = float(best[k]), None
            if bound <= self.needed:
                child = self._child(found, splits, scores, k)
                if child is None:
                    bound = max(bound, self._leaf(found, splits, k))
            answers.append((bound, batch[k], child))
        return answers

    def _relaxed(self, splits: Splits, n: int) -> Relaxation:
        fixed: dict[str, Interval] = {}
        for name, sign in splits.items():
            known = self.root.intervals[name]
            lower, upper = known.lower.expand(n, *sign.shape[1:]), known.upper.expand(n, *sign.shape[1:])
            fixed[name] = Interval(
                torch.where(sign > 0, lower.clamp_min(0), lower), torch.where(sign < 0, upper.clamp_max(0), upper)
            )
        for name in self.root.intervals.keys() - set(self.names) - {self.program.logits, self.program.images}:
            known = self.root.intervals[name]
            fixed[name] = Interval(*(side.expand(n, *side.shape[1:]) for side in (known.lower, known.upper)))
        with torch.no_grad():
            return relax(self.program, repeated(self.region, n), "ibp", fixed=fixed)

    def _ascend(self, found: Relaxation, splits: Splits, n: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Improve slopes and multipliers; returns bounds, and how much each ReLU costs."""
        slopes: dict[str, Tensor] = {}
        least: dict[str, Tensor] = {}
        for step in self.program.steps:
            if isinstance(step, PiecewiseLinear) and not bool((step.below > 1).any()):
                slopes[step.node] = found.lines(step).lower_slope.unsqueeze(1).clone().requires_grad_()
                least[step.node] = step.below
        betas = {
            name: torch.zeros(n, 1, *sign.shape[1:], dtype=torch.float64, requires_grad=True)
            for name, sign in splits.items()
            if bool(sign.any())
        }
        improvable = [*slopes.values(), *betas.values()]
        optimiser = torch.optim.Adam(improvable, lr=_RATE, maximize=True) if improvable else None
        rows = Rows(self.row.expand(n, 1, -1).contiguous())
        best = torch.full((n,), -float("inf"), dtype=torch.float64)
        scores: dict[str, Tensor] = {}

        def watch(step: Step, a: Tensor) -> None:
            relaxed = found.lines(step)
            a = a.detach()[:, 0]
            # The chord is off by its intercept; the best line through 0 on the other side loses less than that.
            above, below = relaxed.upper_shift, -relaxed.lower_shift
            above, below = torch.maximum(above, below * 0.5), torch.maximum(below, above * 0.5)
            scores[step.node] = -a.clamp_max(0) * above + a.clamp_min(0) * below

        for _ in range(_ITERATIONS):
            extra = {name: -splits[name].double().unsqueeze(1) * beta for name, beta in betas.items()}
            back = pull_back(found, self.program.logits, rows, slopes=slopes, extra=extra, watch=watch)
            bound = concretised(found, back)[:, 0]
            best = torch.maximum(best, bound.detach())
            self._try(found.region, back.rows.get(self.program.images))
            going = best <= self.needed
            if not bool(going.any()) or self.point is not None or self.late():
                break
            # A linear network has nothing to improve: its first bound is its only one.
            if optimiser is None or not bound.requires_grad:
                break
            optimiser.zero_grad()
            bound[going & torch.isfinite(bound)].sum().backward()
            optimiser.step()
            with torch.no_grad():
                for name, slope in slopes.items():
                    slope.copy_(torch.minimum(torch.maximum(slope, least[name]), torch.ones_like(slope)))
                for beta in betas.values():
                    beta.clamp_(min=0)
        return best, scores

    def _try(self, region: Region, rows: Rows | None) -> None:
        """The minimisers of the linear bounds as adversarial examples."""
        if rows is None:
            return
        a = rows.whole(region.x.shape[1:]).a.detach()[:, 0]
        if region.norm == "l2":
            length = a.flatten(1).norm(dim=1).clamp_min(1e-290)
            points = region.x - a * (region.eps / length).view(-1, *([1] * (a.dim() - 1)))
            points = torch.minimum(torch.maximum(points, region.lower), region.upper)
        elif region.norm == "linf":
            points = torch.where(a > 0, region.lower, region.upper)
        else:
            points = _steepest_l1(region, a)
        self._tried(points)

    def _tried(self, points: Tensor) -> None:
        values = self.value(points)
        self.upper = min(self.upper, float(values.min()))
        order = values.argsort()
        candidates = points[order[values[order] <= self.needed]]
        confirmed = self.example(candidates).nonzero().flatten() if len(candidates) else None
        if self.point is None and confirmed is not None and len(confirmed):
            self.point = candidates[confirmed[0]].clone()

    def _child(self, found: Relaxation, splits: Splits, scores: dict[str, Tensor], k: int) -> tuple[str, int] | None:
        """The ReLU that costs most; where none costs anything, one in front of a split one that is not linear yet."""
        best: tuple[float, str, int] | None = None
        loose: tuple[str, int] | None = None
        for step in self.program.steps:
            if step.affine:
                continue
            name = step.sources[0]
            low, high = found.intervals[name].lower[k], found.intervals[name].upper[k]
            free = ((low < 0) & (high > 0) & (splits[name][k] == 0)).flatten()
            if not bool(free.any()):
                continue
            if loose is None:
                width = torch.minimum(-low, high).flatten() * free
                loose = name, int(width.argmax())
            if step.node in scores:
                score = scores[step.node][k].flatten() * free
                top = score.max(dim=0)
                if float(top.values) > 0 and (best is None or float(top.values) > best[0]):
                    best = float(top.values), name, int(top.indices)
        if best is not None:
            return best[1], best[2]
        if loose is None:
            return None
        # A split value behind one that is still relaxed is not a linear function of the input yet.
        order = [step.sources[0] for step in self.program.steps if not step.affine]
        later = order[order.index(loose[0]) + 1 :]
        return loose if any(bool(splits[name][k].any()) for name in later) else None

    def _leaf(self, found: Relaxation, splits: Splits, k: int) -> float:
        """The linear programme of a subproblem without relaxed ReLUs."""
        own = {name: sign[k : k + 1] for name, sign in splits.items()}
        single = self._relaxed(own, 1)
        bound, point = solve_leaf(single, self.row, own)
        if point is not None:
            self._tried(point.unsqueeze(0))
        return bound


def repeated(region: Region, n: int) -> Region:
    """The region of one image, n times."""
    parts = {name: getattr(region, name).expand(n, *region.x.shape[1:]) for name in ("x", "lower", "upper")}
    return replace(region, eps=region.eps.expand(n), **parts)


def _steepest_l1(region: Region, a: Tensor) -> Tensor:
    """Move the entries with the largest |a| as far as the box lets them, until eps is used up."""
    flat = a.flatten(1)
    room = torch.where(flat > 0, (region.x - region.lower).flatten(1), (region.upper - region.x).flatten(1))
    order = flat.abs().argsort(dim=1, descending=True)
    sorted_room = room.gather(1, order)
    left = (region.eps.unsqueeze(1) - (sorted_room.cumsum(1) - sorted_room)).clamp_min(0)
    step = torch.zeros_like(flat).scatter(1, order, torch.minimum(sorted_room, left))
    return region.x - (step * flat.sign()).reshape(a.shape)
