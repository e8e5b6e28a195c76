"""Factors an entry, a channel or a layer: what they do together is less than the largest of each on its own.

Two patterns of L2-nonexpansive networks need to know which factor belongs to which entry. s(x) = t sigmoid(4 x /
t) has slopes up to 1 whatever the t of a neuron; factor by factor they would come out as max t / min t. And where
x splits into t x and s x with t^2 + s^2 = 1, and t and s times what comes back are added, nothing is lost to the
addition; op by op it would be max t^2 + max s^2.

Source: L2-Nonexpansive Neural Networks, appendix A.2 (eq. 8) and A.3 (eq. 9, 10).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robcert.bounds.lipschitz.call import LipschitzCall
from robcert.bounds.lipschitz.concatenation import concatenated
from robcert.bounds.lipschitz.patterns import Entrywise, Scaled, Slope
from robcert.bounds.lipschitz.values import ONE, Part, Value, product, root, same

# Above the relative errors of the few roundings of a product, or of a sum of two squares, in float64.
_SLACK = 2.0**-48


def multiplied(call: LipschitzCall, x: Value, factors: Tensor, value: Value) -> Value:
    """The product ``value`` of ``x`` and a constant tensor, with what is known of each entry.

    Args:
        call: the multiplication.
        x: what is multiplied.
        factors: the constant, of any shape that broadcasts to that of ``x``.
        value: the product as far as its rule knows it.
    """
    if value.size != x.size or factors.numel() == 0 or "/" in x.node or len(x.shape) < 2:
        return value
    factors = factors.double()
    before = x.find(Entrywise)
    own = Entrywise(x, factors, factors) if before is None else _then(before, factors, factors)
    base = call.domain.latest(own.of)
    low, high = float(own.low.min()), float(own.high.max())
    if before is not None:
        low, high = low - abs(low) * _SLACK, high + abs(high) * _SLACK
    patterns: list[Any] = [own, Scaled(x, factors.abs())]
    if base.shape == value.shape:
        patterns.append(Slope(base, low, high))
    part = value.part
    if part is None or (part.weights is not None and part.root == base.node):
        part = Part(base.node, 1, 0, base.shape[1], ONE, own.largest)
    bounds = value.bounds.smallest(base.bounds.times(same(max(abs(low), abs(high)))))
    return replace(value, bounds=bounds, patterns=(*value.patterns, *patterns), part=part)


def applied(x: Value, low: float, high: float) -> tuple[Entrywise, ...]:
    """The pattern of an elementwise function of ``x`` with slopes between ``low`` and ``high``."""
    before = x.find(Entrywise)
    if before is None:
        return ()
    return (_then(before, torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)),)


def padded(call: LipschitzCall, x: Value, **changes: Any) -> tuple[Scaled, ...]:
    """The pattern of ``x`` with zeros around it: entries that come from nowhere have the factor 0."""
    before = x.find(Scaled)
    if before is None:
        return ()
    factors = before.factors.expand(x.shape)
    return (Scaled(before.of, call.run(lambda _: factors, **changes)),)


def added(call: LipschitzCall, first: Value, second: Value) -> float:
    """The l2 constant of a sum of two values whose entries have factors; infinite where they have none.

    |dy_i|^2 <= (a_i |dp_i| + b_i |dq_i|)^2 <= (a_i^2 + b_i^2)(|dp_i|^2 + |dq_i|^2), so that ||dy|| is at most
    max_i sqrt(a_i^2 + b_i^2) ||(dp, dq)||.
    """
    a, b = first.find(Scaled), second.find(Scaled)
    if a is None or b is None:
        return math.inf
    largest = float((a.factors.square() + b.factors.square()).max())
    both = concatenated(call.domain, [call.domain.latest(a.of), call.domain.latest(b.of)])
    return product(root(largest * (1 + _SLACK)), both.l2)


def _then(before: Entrywise, low: Tensor, high: Tensor) -> Entrywise:
    """The composition with functions of slopes between ``low`` and ``high``."""
    lowest = highest = before.low * low
    for end in (before.low * high, before.high * low, before.high * high):
        lowest, highest = torch.minimum(lowest, end), torch.maximum(highest, end)
    return Entrywise(before.of, lowest, highest)
