"""Steps of a relaxation, one after the other: the domain of linear bounds and intervals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, fx

import robcert.bounds.linear.rules as rules_package
from robcert.bounds.linear.rules import ANYWHERE, LinearCall, Ref, Rule, relaxations
from robcert.bounds.linear.rules.refusals import REFUSALS
from robcert.bounds.linear.step import Rounding, Step
from robcert.bounds.rounding.entrywise import entrywise_rules, no_rule
from robcert.graph.interpreter import Domain
from robcert.graph.placement import Placed
from robcert.graph.read import Graph


class _Jump:
    """A second result, like the indices of a sort: it depends on the images, and nothing is known about it."""


class LinearDomain(Domain[Ref, LinearCall]):
    """The steps that compute every value, in the order of execution.

    Args:
        graph: of the network.
        shape: of one image.

    Attributes:
        steps: the steps.
        roundings: what the execution of an op adds to its exact result, by the name of the result; nothing where that
            is exact.
        unknown: ops of whose rounding nothing is known, each as a sentence.
    """

    rule = "linear relaxation"
    rules = relaxations
    refusals = REFUSALS
    advice = (
        'Add one: a function with @relaxation("{op}") in a file under '
        f"{Path(str(rules_package.__file__)).parent}. Without it --method gap, smoothing and attacks remain."
    )
    element = Ref

    def __init__(self, graph: Graph, shape: tuple[int, ...]) -> None:
        super().__init__(graph)
        self.steps: list[Step] = []
        self.roundings: dict[str, Rounding] = {}
        self.unknown: list[str] = []
        self.shapes = {graph.images: shape}

    def images(self, node: fx.Node) -> Ref:
        """Return the images, which no step computes."""
        return Ref(node.name, self.shapes[node.name])

    def bind(self, node: fx.Node, op: str, layer: str, given: dict[str, Any]) -> LinearCall:
        """Return an op with its constants in float64."""
        call = LinearCall(node, op, layer, {name: _wide(value) for name, value in given.items()}, graph=self.graph)
        if op != "mul" and any(isinstance(self.values[n.name], _Jump) for n in node.all_input_nodes):
            call.refuse("it reads indices, which jump")
        if op not in ANYWHERE and any(not ref.at.plain for ref in call.operands):
            call.refuse("the images are not along the first axis of what it reads")
        return call

    def apply(self, call: LinearCall, rule: Rule) -> Any:
        """Keep the steps of an op, and what its execution rounds away."""
        before = len(self.steps)
        found, placed = self._keep(rule(call)), cast("tuple[Placed, ...]", self.graph.placements[call.node.name])
        if len(self.steps) > before:
            self._executed(call, self.steps[-1])
        if isinstance(found, list):
            several = zip(cast("list[Any]", found), placed, strict=False)
            return [replace(one, at=own.at) if isinstance(one, Ref) else one for one, own in several]
        return replace(found, at=placed[0].at) if isinstance(found, Ref) else found

    def _executed(self, call: LinearCall, last: Step) -> None:
        if call.op not in entrywise_rules:
            self.unknown.append(no_rule(call))
            return
        rounding = entrywise_rules.get(call.op)(call, last)
        if isinstance(rounding, Rounding):
            self.roundings[last.node] = rounding
        elif rounding is not None:
            self.roundings.update(rounding)

    def _keep(self, found: Any) -> Any:
        """A step, several in a row (the last one has the result), or one for each of several results."""
        if found is None:
            return _Jump()
        if isinstance(found, list):
            return [self._keep(one) for one in cast("list[Any]", found)]
        if isinstance(found, tuple):
            return [self._keep(one) for one in cast("tuple[Any, ...]", found)][-1]
        step = cast("Step", found)
        self.steps.append(step)
        self.shapes[step.node] = step.shape
        return Ref(step.node, step.shape)


def _wide(given: Any) -> Any:
    """Constants in float64."""
    if isinstance(given, list | tuple):
        return [_wide(item) for item in cast("list[Any]", given)]
    return given.detach().cpu().double() if isinstance(given, Tensor) and given.is_floating_point() else given
