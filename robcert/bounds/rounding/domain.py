"""The domain of rounding errors (see `robcert.bounds.rounding.logits`)."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import fx

import robcert.bounds.rounding.rules as rules_package
from robcert.bounds.lipschitz.call import LipschitzCall
from robcert.bounds.lipschitz.concatenation import split_of
from robcert.bounds.lipschitz.domain import LipschitzDomain
from robcert.bounds.lipschitz.patterns import sorted_pair, two_sided
from robcert.bounds.lipschitz.values import Value, product, root, root_of_squares, total
from robcert.bounds.rounding.rules import FLOAT32, FLOAT64, Layer, Local, Rule, Unit, rounding_rules
from robcert.bounds.rounding.rules.functions import BOUNDED
from robcert.bounds.rounding.rules.linear import largest_entry
from robcert.bounds.rounding.rules.moments import NORMALISED, largest_norm
from robcert.bounds.rounding.rules.refusals import REFUSALS
from robcert.graph.export import IMAGES
from robcert.graph.interpreter import Domain

_JOINS = ("cat", "concat", "concatenate", "stack")
"""Ops that put what they read beside one another."""

_LIMIT = 2.0**120
"""Beyond this size a float32 number may overflow on the way, and no bound is given."""

_HALF = 2.0**-26
"""The error in float64, relative to what it reads and what it gives, that an operator without a rule is taken to have:
half of the digits. An assumption (docs/soundness.md, 6.1), on which no claim about the executed network rests."""


class RoundingDomain(Domain[Value, LipschitzCall]):
    """A bound d of the l2 error of every value in one execution, for one image.

    What rules read of a value, its shape and what it is computed from, is what the Lipschitz constants say of it; so
    that is the element, and d stands beside it in ``errors``.

    Args:
        lipschitz: the Lipschitz constants of the network, after their propagation.
        logits: the name of the value of the logits.
        unit: the format of the execution.
        linear: what is kept of linear layers between two passes.
        reasons: why an error has no bound; what is found is appended.
        measured: the norms of executed values, where they are known (one image).
        sizes: else bounds r of the exact ones.

    Attributes:
        errors: d, by name of the value.
        largest: a bound of the error of every logit; infinite where only ``errors`` has one.
    """

    rule = "rounding rule"
    rules = rounding_rules
    refusals = REFUSALS
    advice = f'Add one: a function with @local("{{op}}") in a file under {Path(str(rules_package.__file__)).parent}.'
    element = Value

    def __init__(
        self,
        lipschitz: LipschitzDomain,
        logits: str,
        unit: Unit,
        linear: dict[str, Layer],
        reasons: list[str],
        *,
        measured: dict[str, float] | None = None,
        sizes: dict[str, float] | None = None,
    ) -> None:
        super().__init__(lipschitz.graph)
        self.lipschitz = lipschitz
        self.logits = logits
        self.unit = unit
        self.linear = linear
        self.reasons = reasons
        self.measured = measured
        self.sizes = sizes
        self.errors = {self.graph.images: 0.0}
        self.largest = math.inf

    def images(self, node: fx.Node) -> Value:
        """Return the images, which are float32 numbers."""
        return cast("Value", self.lipschitz.values[node.name])

    def bind(self, node: fx.Node, op: str, layer: str, given: dict[str, Any]) -> LipschitzCall:
        """Return an op all of whose operands are accounted for by their sizes."""
        call = LipschitzCall(node, op, layer, given, domain=self.lipschitz)
        call.ignore(*(name for name, value in given.items() if any(True for _ in call.elements(value))))
        return call

    def apply(self, call: LipschitzCall, rule: Rule) -> Any:
        """Bound the error of every result that is read."""
        for name in self._results(call.node):
            self._bound(name, call, rule)
        return self.lipschitz.values[call.node.name]

    def item(self, node: fx.Node, results: Any, index: int) -> Any:
        """Return one of several results: it goes by the name of the node that picks it."""
        return self.lipschitz.values[node.name]

    def missing(self, node: fx.Node, op: str, layer: str) -> Any:
        """Bound the error of an operator without a rule: none in float32, where it is a reason; `_HALF` in float64."""
        for name in self._results(node):
            value = self._value(name)
            moved, error = self._moved(value), math.inf
            if math.isfinite(moved) and math.isfinite(value.bounds.l2):
                if self.unit is FLOAT64:
                    read = total(*(product(gain.l2, self.size(source)) for source, gain in value.sources))
                    error = total(moved, product(_HALF, total(read, self._out(name, moved))))
                else:
                    self.reasons.append(self.without_rule(node, op, layer).found)
            self.errors[name] = error
        return self.lipschitz.values[node.name]

    def size(self, name: str) -> float:
        """Return a bound of the l2 norm of an executed value."""
        if self.measured is not None:
            return self.measured[name]
        return total(cast("dict[str, float]", self.sizes)[name], self.errors[name])

    def _results(self, node: fx.Node) -> list[str]:
        """The names of the results: that of the node, or those of the nodes that pick one of several."""
        picked = (user for user in node.users if user.target is operator.getitem)
        return [n.name for n in (node, *picked) if isinstance(self.lipschitz.values[n.name], Value)]

    def _value(self, name: str) -> Value:
        return cast("Value", self.lipschitz.values[name])

    def _moved(self, value: Value) -> float:
        """The error that comes from what an op reads."""
        return total(*(product(gain.l2, self.errors[name]) for name, gain in value.sources))

    def _out(self, name: str, moved: float) -> float:
        """A bound of the l2 norm of a result as the exact operator gives it for what was executed before."""
        if self.measured is None:
            return total(cast("dict[str, float]", self.sizes)[name], moved)
        return self.measured[name] * (1 + 2.0**-20) + 2.0**-400

    def _bound(self, name: str, call: LipschitzCall, rule: Rule) -> None:
        value, unit = self._value(name), self.unit
        moved = self._moved(value)
        if not (math.isfinite(moved) and math.isfinite(value.bounds.l2)):
            self.errors[name] = math.inf
            call.ignore(*call.given)  # where no bound is given, no argument matters
            return
        out = self._out(name, moved)
        placed = self.graph.placements[name]
        at = Local(call, value, unit, self.size, out, self.lipschitz.calls, self.linear, self.reasons, placed)
        own = rule(at) if math.isfinite(at.moved) else math.inf
        if not math.isfinite(own):
            call.ignore(*call.given)
        if max(own / unit.u, out) > _LIMIT and unit is FLOAT32:
            self.reasons.append(f"{call.layer}: the result of {call.op} may overflow in float32")
            own = math.inf
        together = self._together(call, value)
        self.errors[name] = total(moved if together is None else min(moved, together), own)
        if name == self.logits and math.isfinite(own):
            self.largest = (
                max(self.errors[name] for name, _ in value.sources)  # each logit is an entry of one of them
                if call.op in _JOINS
                else largest_entry(at, total(*(self.errors[name] for name, _ in value.sources)))
            )

    def _together(self, call: LipschitzCall, value: Value) -> float | None:
        """Less than the sum, for what stands beside one another; two-sided ReLU and sorted pairs: what they read."""
        if call.op not in _JOINS:
            return None
        values = [self._value(name) for name, _ in value.sources]
        found, both, pair = self._beside(values), two_sided(values), sorted_pair(values)
        if both is not None:
            found = min(found, self.errors.get(both.node, math.inf))
        return found if pair is None else min(found, self._beside(pair))

    def _beside(self, values: Sequence[Value]) -> float:
        """The error of values beside one another: the root of squares; slices of one value, none twice: its own."""
        found = root_of_squares(*(self.errors.get(value.node, math.inf) for value in values))
        whole = split_of(values)
        return found if whole is None else min(found, self.errors.get(whole, math.inf))


def largest_size(call: LipschitzCall, value: Value) -> float:
    """Return a bound of ||h||_2 for one image that holds whatever the op reads; infinite for most ops."""
    entries = max(1.0, value.size / IMAGES)
    if call.op in NORMALISED:
        return largest_norm(call, value)
    return product(BOUNDED.get(call.op, math.inf), root(entries))
