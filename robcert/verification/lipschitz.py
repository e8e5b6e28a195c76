r"""A proof that a case of a property has no counterexample, from Lipschitz constants.

A counterexample fulfils every constraint of one region. So a region has none if one of its constraints a y <= b fails
everywhere in its box: with centre c and half widths h, logits z and slopes L,

.. math:: a z^(x) \ge a z(c) - L_a \|h\| - \sum_i |a_i| E > b

for l2, l-infinity or l1, where L_a bounds the slope of a z in that norm (L_ij for a difference of two logits, the sum
of |a_i| L_i otherwise) and E the rounding of the executed logits over the box (`robcert.bounds.rounding.logits`). What
that says of outputs behind a softmax is in `robcert.verification.outputs`. Where there are few inputs, a box for
which this is not enough is halved across its longest side; where the outputs of a centre fulfil a region, that is a
candidate for a counterexample, and the search for a proof ends.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.bounds.rounding.logits import logit_rounding, logit_rounding_at, network64
from robcert.errors import EvaluationError
from robcert.math.rounding import up
from robcert.types import BOUND_NORMS, BoundNorm, LoadedModel
from robcert.verification import Constraint, Region
from robcert.verification.halving import MOST_INPUTS
from robcert.verification.outputs import Head, OutputBounds, answered, output_bounds
from robcert.verification.problem import Box, holds

BOXES = 2**16
"""So many boxes are looked at for a property before it is given up."""

_AT_ONCE = 2**13


class LipschitzProver:
    """Excludes cases by the Lipschitz constants of one network.

    Args:
        model: the network; its box contains the boxes of the property.
        head: what makes the property's outputs of the logits.
        deadline: of `time.monotonic`, after which no box is halved.
        executed: exclude cases for the executed network; else for that in real arithmetic.

    Attributes:
        candidates: (case, input (1, *input_shape) float32), whose outputs in float64 fulfil the case.

    Raises:
        EvaluationError: no finite bound, or an operator without one.
    """

    def __init__(self, model: LoadedModel, head: Head, deadline: float = math.inf, *, executed: bool = True) -> None:
        self.model, self.deadline, self.executed = model, deadline, executed
        self.head: Head = head
        self.bound = graph_bound(model)
        self.error64 = logit_rounding(model).error64
        if not any(self.bound.bounds[norm].finite for norm in BOUND_NORMS):
            raise EvaluationError("the Lipschitz bound is infinite")
        self.evaluate = network64(model)
        self.errors: dict[int, float] = {}
        self.left = BOXES
        self.candidates: list[tuple[Region, Tensor]] = []

    def excludes(self, box: Box, case: Region) -> bool:
        """Decide whether no input of the box fulfils all constraints of the case."""
        error = self._error(box)
        lows, highs = box.low.flatten().unsqueeze(0), box.high.flatten().unsqueeze(0)
        while len(lows):
            self.left -= len(lows)
            if self.left < 0 or time.monotonic() > self.deadline:
                return False
            parts = zip(lows.split(_AT_ONCE), highs.split(_AT_ONCE), strict=True)
            open_ = torch.cat([~self._excluded(box, case, low, high, error) for low, high in parts])
            if self.candidates and self.candidates[-1][0] is case:
                return False
            lows, highs = lows[open_], highs[open_]
            if not len(lows):
                return True
            if lows.shape[1] > MOST_INPUTS:
                return False
            widths, axis = (highs - lows).max(1)
            if bool((widths <= 0).any()):
                return False
            lows, highs = _halved(lows, highs, axis)
        return True

    def _error(self, box: Box) -> float:
        """How far a logit is from that in float64 at the centre, if nothing moved."""
        if id(box) not in self.errors:
            self.errors[id(box)] = self.error64 + (rounding_in(self.model, box) if self.executed else 0.0)
        return self.errors[id(box)]

    def _excluded(self, box: Box, case: Region, low: Tensor, high: Tensor, error: float) -> Tensor:
        """Return which of k boxes (k, inputs) have no counterexample: (k,) bool."""
        wanted = sorted({index for constraint in case.constraints for index, _ in constraint.coefficients})
        centre = (low + high) / 2
        # Half widths around the centre as it was computed, rounded up; float32 inputs may lie one rounding outside.
        half = torch.maximum(high - centre, centre - low) * (1 + 2.0**-50)
        if self.executed:
            half = half + 2.0**-24 * torch.maximum(low.abs(), high.abs())
        more = up(1.0, 8 + half.shape[1])
        reaches: dict[BoundNorm, Tensor] = {
            "l2": half.square().sum(1).sqrt() * more,
            "linf": half.amax(1),
            "l1": half.sum(1) * more,
        }
        finite = [(self.bound.bounds[norm], reach) for norm, reach in reaches.items() if self.bound.bounds[norm].finite]
        logits = self.evaluate(centre.reshape(-1, *self.model.input_shape))
        fulfilled = holds(case, answered(self.head, logits)).nonzero()
        if len(fulfilled):
            found = centre[fulfilled[0]].reshape(1, *self.model.input_shape).float()
            self.candidates.append((case, found.clamp(*box.inner)))
        slopes = torch.stack([reach[:, None] * bound.logits for bound, reach in finite]).amin(0)
        pairs = {
            i: torch.stack([reach[:, None] * bound.pair_row(i) for bound, reach in finite]).amin(0) for i in wanted
        }
        bounds = output_bounds(self.head, logits, slopes, pairs, error, wanted)
        found = torch.zeros(len(low), dtype=torch.bool)
        for constraint in case.constraints:
            found |= _smallest(constraint, bounds, len(low)) > constraint.bound
        return found


def rounding_in(model: LoadedModel, box: Box) -> float:
    """Return a bound of the error of an executed float32 logit in a box.

    Raises:
        EvaluationError: none is known.
    """
    low, high = box.outer
    reach = float((high - low).norm()) * 0.5 * (1 + 2.0**-30) + 1e-300
    return float(logit_rounding_at(model, ((low + high) / 2).unsqueeze(0), reach)[0])


def _halved(low: Tensor, high: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.arange(len(low))
    middle = (low[rows, axis] + high[rows, axis]) / 2
    upper, lower = low.clone(), high.clone()
    upper[rows, axis], lower[rows, axis] = middle, middle
    return torch.cat([low, upper]), torch.cat([lower, high])


def _smallest(constraint: Constraint, bounds: OutputBounds, boxes: int) -> Tensor:
    """A lower bound of sum_i a_i y_i over each box, for the executed network: (boxes,)."""
    value, size = torch.zeros(boxes, dtype=torch.float64), torch.zeros(boxes, dtype=torch.float64)
    for index, factor in constraint.coefficients:
        term = factor * (bounds.low if factor > 0 else bounds.high)[index]
        value, size = value + term, size + term.abs()
    found = value - 2.0**-44 * size
    if len(constraint.coefficients) == 2:
        (i, a), (j, b) = constraint.coefficients
        if a == -b:
            apart = abs(a) * (bounds.above[i, j] if a > 0 else bounds.above[j, i])
            found = torch.maximum(found, apart - 2.0**-44 * apart.abs())
    return torch.nan_to_num(found, nan=-math.inf)
