r"""A proof that a property has no counterexample, from Lipschitz constants.

A counterexample fulfils every constraint of one region. So a region has none if one of its constraints a f <= b fails
everywhere in its box: with centre c and half widths h,

.. math:: a f^(x) \ge a f(c) - L_a \|h\| - \sum_i |a_i| E > b

for l2, l-infinity or l1, where L_a bounds the slope of a f in that norm (L_ij for a difference of two logits, the sum
of |a_i| L_i otherwise) and E the rounding of the executed logits over the box (`robcert.certify.rounding`).
"""

from __future__ import annotations

import math

import torch

from robcert.certify.rounding import logit_rounding, logits64
from robcert.errors import EvaluationError
from robcert.lipschitz.graph import GraphBound, NetworkBound, graph_bound
from robcert.math.rounding import up
from robcert.types import NORMS, LoadedModel
from robcert.vnnlib import Constraint, Property, Region


def proven(model: LoadedModel, prop: Property) -> tuple[bool, str]:
    """Whether it is proven that no region has a counterexample in the executed network, and why not.

    Args:
        model: the network; its box contains the boxes of all regions.
        prop: the property.
    """
    if not prop.regions:
        return True, "no case of the property has an input"
    try:
        bound = graph_bound(model)
        rounding = logit_rounding(model)
    except EvaluationError as error:
        return False, f"there is no Lipschitz bound: {error.found}"
    finite = [norm for norm in NORMS if bound.bounds[norm].finite]
    if not finite:
        return False, "the Lipschitz bound is infinite"
    for number, region in enumerate(prop.regions):
        if not _excluded(model, region, bound, rounding.error + rounding.error64):
            return False, f"the Lipschitz bound does not exclude case {number + 1} of {len(prop.regions)}"
    return True, "the Lipschitz bound excludes every case"


def _excluded(model: LoadedModel, region: Region, bound: GraphBound, error: float) -> bool:
    low, high = (torch.tensor(v, dtype=torch.float64) for v in (region.low, region.high))
    centre = ((low + high) / 2).reshape(1, *model.input_shape)
    # Half widths around the centre as it was computed, rounded up; float32 inputs may lie one rounding outside.
    half = torch.maximum(high - centre.flatten(), centre.flatten() - low) * (1 + 2.0**-50)
    half = half + 2.0**-24 * torch.maximum(low.abs(), high.abs())
    reach = {
        "l2": up(float(half.square().sum().sqrt()), 4 + len(half)),
        "linf": float(half.max()),
        "l1": up(float(half.sum()), 4 + len(half)),
    }
    logits = logits64(model, centre)[0]
    return any(
        _smallest(constraint, logits, bound.bounds[norm], reach[norm], error) > constraint.bound
        for constraint in region.constraints
        for norm in NORMS
    )


def _smallest(constraint: Constraint, logits: torch.Tensor, bound: NetworkBound, reach: float, error: float) -> float:
    """A lower bound of sum_i a_i f_i over the box, for the executed network."""
    value = math.fsum(factor * float(logits[index]) for index, factor in constraint.coefficients)
    weight = math.fsum(abs(factor) for _, factor in constraint.coefficients)
    size = math.fsum(abs(factor * float(logits[index])) for index, factor in constraint.coefficients)
    slope = _slope(constraint, bound)
    if not math.isfinite(slope):
        return -math.inf
    lost = up(slope * reach, 4) + up(weight * error, 4) + 2.0**-48 * size
    return math.nextafter(value - lost, -math.inf) - 2.0**-50 * (abs(value) + lost)


def _slope(constraint: Constraint, bound: NetworkBound) -> float:
    terms = dict(constraint.coefficients)
    total = up(math.fsum(abs(factor) * float(bound.logits[index]) for index, factor in terms.items()), 4 + len(terms))
    if len(terms) == 2:
        (i, a), (j, b) = terms.items()
        if a == -b:
            return min(total, up(abs(a) * float(bound.pair_row(i)[j]), 2))
    return total
