r"""Branch and bound: decides small networks of ReLUs (two-sided ones too) and max pooling exactly.

Max pooling is split on which of two entries is the larger (`robcert.bounds.linear.comparisons`); it lies between planes
in all of its entries, whose weights ascent chooses (`robcert.bounds.linear.maximum`). A ReLU whose input z may have
either sign is split: on each side it is linear. The condition enters the bound by a multiplier (beta-CROWN, Wang et al.
2021): on :math:`\{s z \ge 0\}` and for any :math:`\beta \ge 0`,

.. math:: f \ge f - \beta s z,

so that slopes and multipliers can be improved by ascent while every iterate is a proof. Where no relaxed ReLU takes
part any more, the rest is a convex programme (`robcert.certificates.bab_leaf`): its multipliers, evaluated like all
others with rounding included, prove the bound, or its solution is a point where f is as small as the bound. So the
solver is trusted with nothing.

Subproblems are taken lowest bound first, in batches; ascent on a half begins where that on the whole ended. Every
minimiser that comes up is tried as an adversarial example. A point that is below what a proof needs and yet is none (a
proof needs more than rounding can take away) ends nothing: the search goes on with a smaller subproblem.
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
from robcert.bounds.linear.backward import Relaxation
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.comparisons import compared, is_maximum
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.program import Program
from robcert.bounds.linear.step import Interval
from robcert.certificates.bab_ascent import Ascent, Variables, ascend
from robcert.certificates.bab_branching import Split, Splits, candidates, half
from robcert.certificates.bab_leaf import solve_leaf
from robcert.certificates.bab_points import minimisers

Status = Literal["certified", "broken", "open"]
_ITERATIONS = 12
_BATCH = 64
_CACHED = 1 << 16
"""Coefficients of one value of a batch (512 KiB): more do not fit in a cache, and a small batch takes better nodes."""


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
    network = compared(program)
    if network is not program:
        program, root = network, None
    if root is None:
        with torch.no_grad():
            root = relax(program, region, "crown")
    deadline = clock() + seconds
    return _Search(program, region, row, needed, value, example or _every, lambda: clock() > deadline, root).run()


def _every(points: Tensor) -> Tensor:
    return torch.ones(len(points), dtype=torch.bool)


@dataclass(frozen=True)
class _Node:
    """A subproblem.

    Attributes:
        bound: that of its parent.
        splits: its conditions.
        variables: where ascent on its parent ended.
    """

    bound: float
    splits: Splits
    variables: Variables


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
        self.names = list(dict.fromkeys(name for step in program.steps if not step.affine for name in step.sources))
        self.upper = float("inf")
        self.point: Tensor | None = None
        self.nodes = 0
        self.batch = max(1, min(_BATCH, _CACHED // program.widest))

    def run(self) -> Outcome:
        empty = {name: torch.zeros(self.program.shapes[name], dtype=torch.int8) for name in self.names}
        ties = itertools.count()
        heap: list[tuple[float, int, _Node]] = [(-float("inf"), next(ties), _Node(-float("inf"), empty, Variables()))]
        stuck = float("inf")
        while heap:
            if self.point is not None:
                return self._outcome("broken", min(heap[0][0], stuck))
            if self.late():
                return self._outcome("open", min(heap[0][0], stuck))
            taken = [heapq.heappop(heap) for _ in range(min(self.batch, len(heap)))]
            for node, child in self._bounded([t[2] for t in taken]):
                bound = node.bound
                if bound > self.needed:
                    continue
                if child is None:
                    stuck = min(stuck, bound)
                    continue
                for sign in (1, -1):
                    heapq.heappush(heap, (bound, next(ties), replace(node, splits=half(node.splits, child, sign))))
        if self.point is not None:
            return self._outcome("broken", stuck)
        return self._outcome("certified" if stuck > self.needed else "open", stuck)

    def _outcome(self, status: Status, lower: float) -> Outcome:
        # With nothing left below what is needed, all that is known is that everything is above it.
        lower = max(self.needed * (1 + 2.0**-40) + 1e-300, self.needed) if status == "certified" else lower
        return Outcome(status, lower, self.upper, self.point, self.nodes)

    def _evaluated(self, batch: list[_Node], iterations: int) -> tuple[Relaxation, Splits, Ascent]:
        """Relaxation, conditions and bounds of subproblems."""
        splits = {name: torch.stack([node.splits[name] for node in batch]) for name in self.names}
        found = self._relaxed(splits, len(batch))
        empty = torch.zeros(len(batch), dtype=torch.bool)
        for name in self.names:
            interval = found.intervals[name]
            empty |= (interval.lower > interval.upper).flatten(1).any(1)
        ascent = ascend(found, self.row, splits, [node.variables for node in batch], iterations, self._enough)
        best = torch.maximum(ascent.bound, torch.tensor([node.bound for node in batch], dtype=torch.float64))
        best[empty] = float("inf")
        return found, splits, replace(ascent, bound=best)

    def _enough(self, bound: Tensor, rows: Rows | None) -> Tensor:
        if rows is not None:
            self._tried(minimisers(self.region, rows.whole(self.region.x.shape[1:]).a.detach()[:, 0]))
        over = self.point is not None or self.late()
        return torch.ones_like(bound, dtype=torch.bool) if over else bound > self.needed

    def _bounded(self, batch: list[_Node]) -> list[tuple[_Node, Split | None]]:
        """Bounds of subproblems, and where to split each; None where there is nothing left to split."""
        self.nodes += len(batch)
        found, splits, ascent = self._evaluated(batch, _ITERATIONS)
        answers: list[tuple[_Node, list[Split]]] = []
        promising = candidates(found, splits, ascent.scores)
        for k, node in enumerate(batch):
            bound, places = float(ascent.bound[k]), list[Split]()
            if bound <= self.needed:
                places = promising[k]
                if not places:
                    bound = max(bound, self._leaf(splits, k))
            answers.append((_Node(bound, node.splits, ascent.variables[k]), places))
        return self._filtered(answers)

    def _filtered(self, answers: list[tuple[_Node, list[Split]]]) -> list[tuple[_Node, Split | None]]:
        """Of the most promising splits of each subproblem, the one whose halves have the best bounds before ascent.

        Source: filtered smart branching (De Palma et al. 2021); halves are weighed as in integer programming, by the
        product of what both gain (Achterberg 2007).
        """
        over = self.point is not None or self.late()
        tried = [
            (k, split, replace(node, splits=half(node.splits, split, sign)))
            for k, (node, splits) in enumerate(answers)
            if len(splits) > 1 and not over
            for split in splits
            for sign in (1, -1)
        ]
        bounds: list[float] = []
        for start in range(0, len(tried), self.batch):
            part = [node for _, _, node in tried[start : start + self.batch]]
            with torch.no_grad():
                bounds += self._evaluated(part, 1)[2].bound.tolist()
        gains: dict[tuple[int, Split], float] = {}
        for (k, split, _), bound in zip(tried, bounds, strict=True):
            gain = max(min(bound, self.needed) - answers[k][0].bound, 0.0) + 1e-6
            gains[k, split] = gains.get((k, split), 1.0) * gain
        return [
            (node, max(splits, key=lambda split: gains.get((k, split), 0.0)) if splits else None)
            for k, (node, splits) in enumerate(answers)
        ]

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

    def _tried(self, points: Tensor) -> None:
        values = self.value(points)
        self.upper = min(self.upper, float(values.min()))
        order = values.argsort()
        candidates = points[order[values[order] <= self.needed]]
        confirmed = self.example(candidates).nonzero().flatten() if len(candidates) else None
        if self.point is None and confirmed is not None and len(confirmed):
            self.point = candidates[confirmed[0]].clone()

    def _leaf(self, splits: Splits, k: int) -> float:
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
