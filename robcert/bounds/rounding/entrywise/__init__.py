"""Rounding of single operators, entry by entry; one file a family, one registered function a rule.

With x^ what an operator reads when it is executed in float32, a rule bounds |op_executed(x^) - op(x^)| for every entry
of the result, where op is the exact function and |x^| is known from intervals. Linear bounds carry these perturbations
to the margins (`robcert.bounds.linear.backward`). A rule takes the call and the (last) step that stands for it::

    @entrywise("tanh")
    def tanh(call: LinearCall, step: Step) -> Rounding | None: ...

None says that the operator is exact; an operator of several steps may have a rounding for each, by name. Where an
operator has no rule, only the radius in real arithmetic stands. The derivations are in docs/soundness.md, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from robcert.bounds.linear.rules import LinearCall
from robcert.bounds.linear.step import Interval, Rounding, Step
from robcert.bounds.rounding.rules import FLOAT32
from robcert.bounds.rounding.rules.refusals import REFUSALS
from robcert.registry import Registry

WIDE = 1 + 2.0**-20
"""Bounds are evaluated in float64, in a few thousand roundings at most: this covers them."""

Rule = Callable[[LinearCall, Step], Rounding | Mapping[str, Rounding] | None]

entrywise_rules: Registry[Rule] = Registry("entrywise rounding rule", "robcert.bounds.rounding.entrywise")
"""Name of an ATen op -> the bound of what it rounds away in every entry."""

entrywise = entrywise_rules.register
"""Decorator that registers a rule for the named ops."""


def no_rule(call: LinearCall) -> str:
    """Return the refusal of an operator without a rule."""
    why = f": {REFUSALS[call.op]}" if call.op in REFUSALS else ""
    return f"there is no rounding rule for the op {call.op} ({call.node.target}) of layer {call.layer}{why}"


def largest(x: Interval) -> Tensor:
    """Return a bound of |x^| for every entry: (n, *shape)."""
    return torch.maximum(x.lower.abs(), x.upper.abs())


def rounded(times: int, size: Tensor, scale: float = 1.0) -> Tensor:
    """Return what ``times`` roundings of terms whose absolute values sum up to ``size`` can change, entry by entry.

    Args:
        times: roundings that a term takes part in.
        size: (n, *shape), or broadcasts against it.
        scale: the largest factor by which an entry that is read as 0, because it is subnormal, is multiplied.
    """
    underflow = 8 * (times + 1) * (1 + scale) * FLOAT32.tiny
    relative = FLOAT32.gamma(times)
    return (relative * size + underflow * (1 + size)) * WIDE if math.isfinite(relative) else size + math.inf
