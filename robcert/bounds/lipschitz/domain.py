"""The domain of Lipschitz constants: how far every value of a graph moves with the images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import fx

import robcert.bounds.lipschitz.rules as rules_package
from robcert.bounds.lipschitz.affine import Segment
from robcert.bounds.lipschitz.call import LipschitzCall, NotFinite
from robcert.bounds.lipschitz.layer_row import LayerRow
from robcert.bounds.lipschitz.rules import Rule, rules
from robcert.bounds.lipschitz.rules.infinite import REASONS
from robcert.bounds.lipschitz.values import ONE, Bounds, Part, Value, product, root
from robcert.graph.call import specs
from robcert.graph.interpreter import Domain, Interpreter
from robcert.graph.read import Graph


class LipschitzDomain(Domain[Value, LipschitzCall]):
    """The Lipschitz constants of all values, the ops that made them and the rows of all layers.

    Args:
        graph: of the network.
        features: the number of entries of one image.
        tol: of l2 norms, see `robcert.bounds.lipschitz.norms.operator_norm`.
        papers: rows hold the bounds that papers use, too (`robcert.bounds.lipschitz.papers`).
    """

    rule = "Lipschitz rule"
    advice = (
        f'Add one: a function with @rule("{{op}}") in a file under {Path(str(rules_package.__file__)).parent}, as in '
        "activations.py. Without it there is no bound, and none is guessed; attacks and smoothing work."
    )
    element = Value
    rules = rules
    refusals = REASONS

    def __init__(self, graph: Graph, features: int, tol: float, papers: bool = False) -> None:
        super().__init__(graph)
        self.features = features
        self.tol = tol
        self.papers = papers
        self.rows: dict[str, LayerRow] = {}
        self.calls: dict[str, LipschitzCall] = {}
        self.measured: set[str] = set()

    def run(self) -> Value:
        """Return the value of the logits; errors as `Interpreter.run`."""
        return self.measure(Interpreter(self).run())

    def images(self, node: fx.Node) -> Value:
        """The identity."""
        return Value(node.name, specs(node)[0].sizes(), ONE, {node.name: 0})

    def bind(self, node: fx.Node, op: str, layer: str, given: dict[str, Any]) -> LipschitzCall:
        """Bind an op to values that have been measured, where its rule is not affine in them."""
        if not getattr(rules.get(op), "affine", False):
            given = {name: self._measured(value) for name, value in given.items()}
        return LipschitzCall(node, op, layer, given, domain=self)

    def apply(self, call: LipschitzCall, rule: Rule) -> Any:
        """Return the answer of the rule; a use of the op without a finite constant is infinite."""
        try:
            found = rule(call)
        except NotFinite as error:
            call.ignore(*call.given)  # infinite, whatever they are
            return call.infinite(str(error))
        if isinstance(found, list):  # a rule need not say anything of further results
            known = cast("list[Any]", found)
            return [call.beside("further results", "none is known") if one is None else one for one in known]
        return found

    def item(self, node: fx.Node, results: Any, index: int) -> Any:
        """Return one of several results: it goes by the name of the node that picks it."""
        shape = specs(node)[0].sizes()
        found = replace(results, shape=shape) if isinstance(results, Value) else results[index]
        if not isinstance(found, Value):
            return found
        affine = {node.name: 0} if found.node in found.affine else found.affine
        return replace(found, node=node.name, affine=affine)

    def latest(self, value: Value) -> Value:
        """The value as it is known by now: it may have been measured since."""
        known = self.values.get(value.node)
        return known if isinstance(known, Value) else value

    def value(
        self,
        call: LipschitzCall,
        sources: Sequence[tuple[Value, Bounds]],
        bounds: Bounds,
        patterns: tuple[Any, ...] = (),
        *,
        links: int | None = None,
        part: Part | None = None,
        reasons: tuple[str, ...] = (),
        shape: tuple[int, ...] | None = None,
        name: str | None = None,
        keep: bool = True,
    ) -> Value:
        """A new value; reasons of its sources are passed on while the bound is infinite.

        Args:
            call: the op.
            sources: what it is computed from, each with the constants of the op in that value alone.
            bounds: from the input to the result.
            patterns: what the result is.
            links: None for a nonlinear op; 1 for a linear one, 0 for one that only moves entries.
            part: what it reads, if that is a slice.
            reasons: why the bound is infinite.
            shape: of the result, where the op has several.
            name: of the result, where it is not that of the node.
            keep: whether reasons of the sources still hold.
        """
        shape = call.shape if shape is None else shape
        bounds = _consistent(bounds, self.features, math.prod(shape))
        if keep and not bounds.finite:
            reasons = (*reasons, *(r for source, _ in sources for r in source.reasons if r not in reasons))
            if not reasons:
                reasons = (f"{call.layer}: the bound is larger than any float64",)
        elif bounds.finite:
            reasons = ()
        name = call.node.name if name is None else name
        self.calls[name] = call
        return Value(
            name,
            shape,
            bounds,
            {name: 0} if links is None else _affine([source for source, _ in sources], links),
            part,
            patterns,
            tuple(self._real(sources)),
            tuple(dict.fromkeys(reasons)),
        )

    def _real(self, sources: Sequence[tuple[Value, Bounds]]) -> Iterator[tuple[str, Bounds]]:
        """The sources that are nodes of the graph; a copy that a rule made on the way stands for its own."""
        for source, gain in sources:
            if "/" in source.node:
                yield from ((name, inner.times(gain)) for name, inner in source.sources)
            else:
                yield source.node, gain

    def _measured(self, given: Any) -> Any:
        if isinstance(given, Value):
            return self.measure(given)
        if isinstance(given, list | tuple):
            return [self._measured(item) for item in cast("list[Any]", given)]
        return given

    def measure(self, value: Value) -> Value:
        """The value with a bound from the exact matrix of the linear ops behind it, where that is cheap.

        conv then pooling, a residual sum of linear branches: the norm of the whole is smaller than what the
        ops one by one give.
        """
        if max(value.affine.values()) < 2 or value.node in self.measured or not value.bounds.finite:
            return self.latest(value)
        self.measured.add(value.node)
        anchors = [self.values[name] for name in sorted(value.affine)]
        found = Segment(self.graph, self.values, value, anchors).bound(self.tol)
        if found is not None:
            bounds = _consistent(value.bounds.smallest(found), self.features, value.size)
            value = _with_bounds(value, bounds)
            self.values[value.node] = value
        return value


def _with_bounds(value: Value, bounds: Bounds) -> Value:
    return replace(value, bounds=bounds)


def _affine(sources: Sequence[Value], links: int) -> dict[str, int]:
    """In what a linear op of affine values is affine; branches that meet again are a link of their own."""
    found: dict[str, int] = {}
    for source in sources:
        for name, count in source.affine.items():
            found[name] = found[name] + count + 1 if name in found else count
    return {name: count + links for name, count in found.items()}


def _consistent(bounds: Bounds, n: int, m: int) -> Bounds:
    """Return the constants after each has been lowered by the others, for a map from n entries to m.

    ||J||_2 <= sqrt(||J||_1 ||J||_inf) for the Jacobian almost everywhere; ||x||_2 <= sqrt(n) ||x||_inf and
    ||x||_2 <= ||x||_1 for the input, likewise for the output.
    """
    l2 = min(bounds.l2, product(root(bounds.l1), root(bounds.linf)))
    return Bounds(l2, min(bounds.linf, product(root(float(n)), l2)), min(bounds.l1, product(root(float(m)), l2)))
