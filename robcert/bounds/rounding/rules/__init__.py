"""Rounding of single operators; one file a family, one registered function a rule.

With x^ what the op reads when it is executed, a rule bounds ||op_executed(x^) - op(x^)||_2 for one image, where op
is the exact function. It knows ||x^||_2 and ||op(x^)||_2 at most. Where an op has no rule, only the radius in real
arithmetic stands. The derivations are in docs/soundness.md, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from robcert.bounds.lipschitz.call import LipschitzCall
from robcert.bounds.lipschitz.values import Value, product, root, total
from robcert.graph.export import IMAGES
from robcert.graph.placement import Placement
from robcert.math.rounding import up
from robcert.registry import Registry


@dataclass(frozen=True)
class Unit:
    """A floating-point format: fl(a op b) = (a op b)(1 + d) + e with |d| <= u, |e| <= tiny.

    ``tiny`` is the smallest normal number, so that flushing subnormal numbers to zero is covered.
    """

    u: float
    tiny: float

    def gamma(self, n: int) -> float:
        """The constant n u / (1 - n u), rounded up: n roundings change a value by at most this factor."""
        whole = n * self.u
        return up(whole / (1 - whole), 4) if whole < 0.5 else math.inf


FLOAT32 = Unit(2.0**-24, 2.0**-126)
FLOAT64 = Unit(2.0**-53, 2.0**-1022)


@dataclass(frozen=True)
class Layer:
    """A linear layer: ``terms`` products are summed into an entry of the result.

    Attributes:
        terms: n.
        absolute: a bound of || |W| ||_2.
        largest: the largest |weight|.
        bias: ||b||_2, one image.
        row: a bound of the largest l2 norm of a row of W, where W is a plain matrix; else infinite.
        row_bias: the largest |b|.
    """

    terms: int
    absolute: float
    largest: float
    bias: float
    row: float
    row_bias: float


@dataclass(frozen=True)
class Local:
    """One op and what is known about the numbers that it meets.

    Attributes:
        call: the op.
        value: its result.
        unit: the format in which it is executed.
        size: node -> a bound of the l2 norm of its executed value, one image.
        out: a bound of ||op(x^)||_2, one image.
        calls: every op of the graph by the name of its node.
        linear: what is kept of linear layers between two passes.
        reasons: a rule that has no finite bound appends why.
        placed: where the images lie in the result.
    """

    call: LipschitzCall
    value: Value
    unit: Unit
    size: Callable[[str], float]
    out: float
    calls: dict[str, LipschitzCall]
    linear: dict[str, Layer]
    reasons: list[str]
    placed: Placement

    @property
    def entries(self) -> float:
        """Entries of the result, one image."""
        return max(1.0, self.value.size / IMAGES)

    @property
    def read(self) -> float:
        """The sum of ||x^|| over what the op reads."""
        return total(*(self.size(name) for name, _ in self.value.sources))

    @property
    def moved(self) -> float:
        """The sum of gain ||x^||: a bound of || |A| |x^| ||_2 for an op with no more than one factor a copy."""
        return total(*(product(gain.l2, self.size(name)) for name, gain in self.value.sources))

    def rounded(self, times: int, size: float) -> float:
        """``times`` roundings of terms whose absolute values sum up to ``size``, and their underflow."""
        gains = sum(gain.l2 for _, gain in self.value.sources)
        underflow = 8 * (times + 1) * self.unit.tiny * (1 + self.read + gains)
        return total(product(self.unit.gamma(times), size), product(root(self.entries), underflow))


Rule = Callable[[Local], float]
rounding_rules: Registry[Rule] = Registry("rounding rule", "robcert.bounds.rounding.rules")
"""Name of an ATen op -> the bound of what it rounds away."""

local = rounding_rules.register
"""Decorator that registers a rule for the named ops."""
