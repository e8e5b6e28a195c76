r"""Confidence-gap certificates from Lipschitz constants that hold in a ball around each image.

In the ball of radius eps a difference of two logits moves by at most :math:`L_{yj}(eps) \|x' - x\|`
(`robcert.bounds.linear.slopes`), so that the answer y stands while

.. math:: \|x' - x\| < \min (eps, \min_j (f_y - f_j) / L_{yj}(eps)).

In a larger ball more neurons may switch and L is larger; the best ball is where the two terms agree. Every ball that is
tried gives a radius that holds, and no radius is below that of `gap`. The executed network differs from the real one by
at most D in every difference of two logits within reach, which counts as it does there.

Source: Huang et al. 2021, Training Certifiably Robust Neural Networks with Efficient Local Lipschitz Bounds.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from robcert.bounds.linear.backward import ENTRIES
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.bounds.linear.slopes import Moves, intervals, slopes
from robcert.bounds.lipschitz.concatenation import concatenated
from robcert.bounds.lipschitz.values import INFINITE, Bounds, Value, product
from robcert.bounds.rounding.logits import analyse, gap_error64, logits64
from robcert.bracket import Evidence, counted
from robcert.certificates import Certificates, Search, certificate, round_down
from robcert.certificates.effort import Effort, TimeLimit
from robcert.certificates.executed import executed_radii
from robcert.certificates.gap import certify_gap, pair_rows, reach
from robcert.certificates.margins import pairs
from robcert.certificates.trials import undecided
from robcert.errors import EvaluationError
from robcert.graph.read import Graph
from robcert.types import BOUND_NORMS, BoundNorm, LoadedModel

_BALLS = 12
"""Balls that are tried for an image at most, beside those of budgets."""
_BATCH = 64


@dataclass(frozen=True)
class LocalGapEvidence(Evidence):
    """The global constant of the logits, how often a local one was better, and how far logits are off.

    Attributes:
        lipschitz: of the logits, everywhere.
        rounding_float64: of the difference of two logits, evaluated in float64.
        better: images whose radius in real arithmetic is larger than that of `gap`.
    """

    lipschitz: float
    rounding_float64: float
    better: float = counted()


def in_l2(model: LoadedModel, norm: BoundNorm, search: Search) -> bool:
    """Return whether `best` tries it: in the other norms linear bounds say more at the same price."""
    return norm == "l2"


@certificate("local-gap", evidence=LocalGapEvidence, cost=1.5, suits=in_l2)
def certify_local_gap(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """Certify images by Lipschitz constants that hold in balls around them.

    Args:
        model: the network.
        x: (n, *shape) float32, inside the box.
        y: (n,) int64.
        norm: of the perturbation.
        search: which radii are asked for.

    Returns:
        Radii, none below those of `gap`.

    Raises:
        EvaluationError: no finite Lipschitz constant is known, or an op has no linear relaxation, or one of both only
            if the network is written in other operators.
    """
    began, search = time.monotonic(), search or Search()
    base, labels, slack = certify_gap(model, x, y, norm, search), y.cpu(), gap_error64(model)
    constants, limit = LocalConstants(model, norm), TimeLimit(len(x), search.seconds, search.spent)
    balls = Balls(constants, x, labels, logits64(model, x), base.radius_real, slack, limit)
    balls.run(search)
    real, radius = torch.maximum(base.radius_real, round_down(balls.radius)), base.radius
    if not base.refused:
        within = torch.where(base.radius_real > 0, balls.radius, 0.0)
        executed = executed_radii(model, x, labels, norm, within, balls.to_each, search)
        radius = torch.maximum(radius, round_down(executed))
    better = (real > base.radius_real).tolist()
    late = limit.late & undecided(base.radius_real > 0, radius, None, search)
    return replace(
        base,
        method="local-gap",
        radius=radius,
        radius_real=real,
        binding=tuple("local" if larger else kind for larger, kind in zip(better, base.binding, strict=True)),
        seconds=time.monotonic() - began,
        evidence=LocalGapEvidence(constants.bound.whole, slack, float(sum(better))),
        effort=replace(Effort.none(len(x)), seconds=limit.own, late=late),
    )


class LocalConstants:
    """The constants L_yj of one network over balls.

    Args:
        model: the network.
        norm: of the balls.
    """

    def __init__(self, model: LoadedModel, norm: BoundNorm) -> None:
        self.model = model
        self.norm: BoundNorm = norm
        self.program = program(model)
        analysis, _ = analyse(model)
        self.domain, self.bound = analysis.domain, analysis.lipschitz[norm]
        if _written(self.program.graph) != _written(analysis.graph):
            raise EvaluationError(
                f"the linear relaxation of {model.name} is in terms of other operators than its Lipschitz constants",
                "Use --method gap or crown.",
            )
        self.batch = max(1, min(_BATCH, ENTRIES // (model.num_classes * self.program.widest)))
        self._moves: dict[str, Moves] = {}

    def everywhere(self, y: Tensor) -> Tensor:
        """Return the global constants: (n, classes)."""
        return pair_rows(self.bound, y)

    @torch.no_grad()
    def at(self, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
        """Return the constants over balls of radii ``eps`` (n,) around images, never above the global ones."""
        here = relax(self.program, region(x, torch.zeros_like(eps), self.norm, self.model.box), "ibp")
        around = region(x, eps, self.norm, self.model.box)
        within = intervals(self.program, around, here, self.moves)
        chunk = max(1, ENTRIES // (len(x) * self.program.widest))
        local = [slopes(within, rows, self.moves) for rows in pairs(y, self.model.num_classes).split(chunk, 1)]
        return torch.minimum(torch.cat(local, 1), self.everywhere(y))

    def moves(self, name: str) -> Moves:
        """Return how far a value moves, in each norm, for each unit that an image moves in the norm of the balls."""
        if name not in self._moves:
            own = self._bounds(name)
            change = self.bound.head.change
            self._moves[name] = {norm: product(change(self.norm, norm), own[norm]) for norm in BOUND_NORMS}
        return self._moves[name]

    def _bounds(self, name: str) -> Bounds:
        """The global constants of a value of the program; infinite where the graph has no such value."""
        names = [name]
        if name.endswith("/both"):  # two values beside one another, of which a step takes the larger
            names = list(next(step for step in self.program.steps if step.node == name).sources)
        values = [self._value(one) for one in names]
        known = [value for value in values if isinstance(value, Value)]
        if len(known) < len(values):
            return INFINITE
        return known[0].bounds if len(known) == 1 else concatenated(self.domain, known)

    def _value(self, name: str) -> Any:
        """What the graph knows by the name of a value of the program; "split[1]" is one of several results."""
        parent, _, index = name.removesuffix("]").rpartition("[")
        several = self.domain.values.get(parent)
        return cast("list[Any]", several)[int(index)] if isinstance(several, list) else self.domain.values.get(name)


def _written(graph: Graph) -> list[tuple[str, str, str, str]]:
    """A graph as text: values of two graphs have the same names by chance, unless the graphs are the same."""
    return [(node.name, str(node.target), str(node.args), str(node.kwargs)) for node in graph.nodes]


class Balls:
    """The best ball around each of some images.

    Args:
        constants: of the network.
        x: (n, *shape).
        y: (n,) int64.
        logits: (n, classes) float64.
        radius: (n,), proven in real arithmetic by the global constants; images with 0 are left alone.
        slack: what a difference of two logits may be off by.
        limit: of the time of each image.

    Attributes:
        radius: (n,), the largest that is proven so far in real arithmetic; not yet rounded down.
        ball: (n,), that of the ball in which it is proven; infinite for the global constants.
        steepest: (n, classes), the constants L_yj in that ball.
        most: (n,), no larger radius is looked for: an adversarial example is known there, or a ball has shown that no
            other one proves more if constants grow with balls.
    """

    def __init__(
        self,
        constants: LocalConstants,
        x: Tensor,
        y: Tensor,
        logits: Tensor,
        radius: Tensor,
        slack: float,
        limit: TimeLimit,
    ) -> None:
        self.constants, self.x, self.y, self.logits, self.limit = constants, x, y, logits, limit
        self.slack = slack
        self.radius = radius.clone()
        self.ball = torch.full_like(radius, math.inf)
        self.steepest = constants.everywhere(y)
        self.most = torch.where(radius > 0, torch.full_like(radius, math.inf), radius)

    def run(self, search: Search) -> None:
        """Decide the budgets, then look for the best ball where the largest radius is asked for."""
        if search.above is not None:
            self.most = torch.minimum(self.most, search.above.cpu().double())
        for eps in search.eps:
            tried = eps * (1 + 2.0**-40)
            self._at((self.radius <= eps) & (self.most > tried), torch.full_like(self.radius, tried))
        for _ in range(_BALLS if search.largest else 0):
            middle = torch.where(torch.isfinite(self.most), (self.radius * self.most).sqrt(), self.radius)
            self._at(self.most > self.radius * (1 + search.tolerance), middle)

    def to_each(self, errors: Tensor) -> Tensor:
        """Return the radii that the best balls prove where executed differences are off by ``errors``: (n, classes)."""
        found = reach(self.logits, self.y, self.steepest, self.slack + errors)
        return torch.minimum(self.ball.unsqueeze(1), found)

    def _at(self, wanted: Tensor, eps: Tensor) -> None:
        """Try one ball for each of some images."""
        for rows in self.limit.allowed(wanted.nonzero().flatten()).split(self.constants.batch):
            if len(rows):
                with self.limit.charged(rows):
                    self._try(rows, eps[rows])

    def _try(self, rows: Tensor, eps: Tensor) -> None:
        """The same for images that are tried together."""
        found = self.constants.at(self.x[rows], self.y[rows], eps)
        near = reach(self.logits[rows], self.y[rows], found, self.slack).amin(1)
        proven = torch.minimum(near, eps)
        self.most[rows] = torch.minimum(self.most[rows], torch.maximum(near, eps))
        better = proven > self.radius[rows]
        chosen = rows[better]
        self.radius[chosen], self.ball[chosen] = proven[better], eps[better]
        self.steepest[chosen] = found[better]
