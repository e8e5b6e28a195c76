r"""A proof that cases of a property have no counterexample, from linear bounds and branch and bound.

In a case with constraints :math:`a_k y \le b_k`, every input of the box has to violate one of them. Interval
arithmetic, CROWN and alpha-CROWN bound each :math:`a_k y` from below: one that stays above :math:`b_k` excludes the
case. What is left is split by branch and bound, over the inputs where they are few
(`robcert.verification.halving`), then over ReLUs: :math:`a y` itself where the case has one constraint, else
:math:`\max_k (a_k y - b_k)` (`robcert.verification.problem.Largest`). Each bound is one of the executed network and
one in real arithmetic (`robcert.bounds.linear.backward`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robcert.bounds.linear.backward import Relaxation, both_bounds
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region as Inputs
from robcert.bounds.linear.program import program, refusal
from robcert.certificates.bab import evaluator
from robcert.certificates.bab_search import decide, splittable
from robcert.certificates.margins import ITERATIONS, improved
from robcert.graph.cache import graph_of
from robcert.types import LoadedModel
from robcert.verification import Region
from robcert.verification.file import File
from robcert.verification.halving import MOST_INPUTS, excluded
from robcert.verification.problem import Box, Largest, coefficients, holds, largest_of

Method = Literal["ibp", "crown", "alpha-crown", "halving", "bab"]
METHODS: tuple[Method, ...] = ("ibp", "crown", "alpha-crown", "halving", "bab")
"""From cheap to dear."""

_SLACK = 2.0**-50
"""Relative: above the float64 rounding of a difference."""


@dataclass
class Status:
    """What is known of a case.

    Attributes:
        executed: it has no counterexample in the executed network.
        real: it has none in real arithmetic.
        point: a counterexample that the file confirms, (1, *input_shape) float32.
    """

    executed: bool = False
    real: bool = False
    point: Tensor | None = None


class LinearProver:
    """Bounds of one box.

    Args:
        model: the network, on the CPU; its box contains that of the property.
        file: that confirms counterexamples; its outputs are the logits.
        box: of the inputs.
        executed: whether cases are to be excluded for the executed network too, or in real arithmetic alone.

    Attributes:
        refused: why nothing is claimed about the executed network; "" where something is.

    Raises:
        EvaluationError: an operator without a relaxation.
    """

    def __init__(self, model: LoadedModel, file: File, box: Box, *, executed: bool) -> None:
        self.model, self.file, self.box, self.executed = model, file, box, executed
        self.program = program(model) if executed else program(model).exact
        self.shifted = graph_of(model).logits.name != self.program.logits
        self.inputs = _inputs(*(box.outer if executed else (box.low, box.high)))
        self.refused = refusal(model)
        self.root: Relaxation | None = None

    def prove(self, method: Method, cases: dict[int, Status], deadline: float) -> None:
        """Try to exclude cases of the box, by their numbers, with one method."""
        open_ = [number for number, status in cases.items() if not self._done(status)]
        if not open_:
            return
        if method in ("halving", "bab"):
            decide_one = self._halve if method == "halving" else self._branch
            for number in open_:
                decide_one(self.box.cases[number], cases[number], deadline)
                if cases[number].point is not None:
                    return
            return
        listed = [(number, k) for number in open_ for k in range(len(self.box.cases[number].constraints))]
        constraints = [self.box.cases[number].constraints[k] for number, k in listed]
        if not constraints:
            return
        a, b = coefficients(constraints, self.model.num_classes)
        found = (value.tolist() for value in self._bounds(method, a, b))
        for (number, _), executed, real in zip(listed, *found, strict=True):
            cases[number].real |= real > 0
            cases[number].executed |= self.executed and not self.refused and executed > 0

    def _done(self, status: Status) -> bool:
        return status.point is not None or (status.executed if self.executed and not self.refused else status.real)

    def _bounds(self, method: Method, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Lower bounds of a y - b over the box, of the executed network and in real arithmetic: (rows,) each."""
        rows = a.unsqueeze(0)
        with torch.no_grad():
            if method == "ibp":
                found = relax(self.program, self.inputs, "ibp")
                bounds = both_bounds(found, self.program.logits, Rows(rows), to_inputs=False)
            else:
                if self.root is None:
                    self.root = relax(self.program, self.inputs, "crown")
                bounds = both_bounds(self.root, self.program.logits, Rows(rows))
        if method == "alpha-crown":
            assert self.root is not None
            bounds = improved(self.root, rows, *bounds, ITERATIONS, enough=float(b.max()) * (1 + _SLACK))
        values: list[Tensor] = []
        for bound in bounds:
            value = bound[0] - b - _SLACK * (bound[0].abs() + b.abs())
            # The graph without its log_softmax answers with logits that are off by one number: differences are right.
            values.append(torch.where(a.sum(1) == 0, value, -math.inf) if self.shifted else value)
        return values[0], values[1]

    def _halve(self, case: Region, status: Status, deadline: float) -> None:
        """Branch and bound over the inputs, where there are few; half of the time is left for that over ReLUs."""
        if self.inputs.x.numel() > MOST_INPUTS or not case.constraints:
            return
        a, b = coefficients(list(case.constraints), self.model.num_classes)
        if self.shifted and bool((a.sum(1) != 0).any()):
            return
        executed, (low, high) = self.executed and not self.refused, self.box.inner

        def tried(points: Tensor) -> bool:
            x = torch.minimum(torch.maximum(points.float(), low), high)
            for k in holds(case, self.file.outputs(x)).nonzero().flatten().tolist():
                if self.file.confirms(case, x[k : k + 1]):
                    status.point = x[k : k + 1]
                    return True
            return False

        until = (time.monotonic() + deadline) / 2 if splittable(self.program) else deadline
        if excluded(self.program, self.inputs, a, b, tried, until):
            status.real, status.executed = True, executed

    def _branch(self, case: Region, status: Status, deadline: float) -> None:
        """Branch and bound of one case."""
        count = len(case.constraints)
        if count == 1:
            model, network, root, refused = self.model, self.program, self.root, self.refused
            a, b = coefficients(list(case.constraints), model.num_classes)
            row, bound = a[0], float(b[0])
            if self.shifted and float(row.sum()) != 0:
                return
        else:
            if not count or not Largest.exact((case,), self.model.num_classes) or self.shifted:
                return
            model = largest_of(self.model, (case,))
            network, root, refused = program(model), None, refusal(model)
            network = network if self.executed else network.exact
            row, bound = torch.ones(1, dtype=torch.float64), 0.0
        if not splittable(network):
            return
        evaluate, (low, high) = evaluator(model), self.box.inner

        def value(points: Tensor) -> Tensor:
            return evaluate(points) @ row

        def executed(points: Tensor) -> Tensor:
            return torch.minimum(torch.maximum(points.float(), low), high)

        def example(points: Tensor) -> Tensor:
            return torch.tensor([self.file.confirms(case, x) for x in executed(points).split(1)], dtype=torch.bool)

        needed = bound + _SLACK * abs(bound)
        seconds = deadline - time.monotonic()
        outcome = decide(network, self.inputs, row, needed, value, example=example, seconds=seconds, root=root)
        if outcome.point is not None and outcome.status == "broken":
            status.point = executed(outcome.point.unsqueeze(0))
        if outcome.status == "certified":
            status.real = True
            status.executed |= self.executed and not refused
        elif outcome.lower > bound + _SLACK * abs(bound):
            status.real = True


def _inputs(low: Tensor, high: Tensor) -> Inputs:
    low, high = low.unsqueeze(0), high.unsqueeze(0)
    centre = (low + high) / 2
    reach = torch.maximum(high - centre, centre - low).amax().view(1)
    return Inputs(centre, reach, "linf", low, high)


__all__ = ["METHODS", "LinearProver", "Method", "Status"]
