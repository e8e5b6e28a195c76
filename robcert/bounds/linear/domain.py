"""Steps of a relaxation, one after the other: the domain of linear bounds and intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import Tensor, fx

import robcert.bounds.linear.rules as rules_package
from robcert.bounds.linear.rules import LinearCall, Ref, Rule, relaxations
from robcert.bounds.linear.rules.refusals import REFUSALS
from robcert.bounds.linear.step import Step
from robcert.graph.interpreter import Domain
from robcert.graph.read import Graph


class _Jump:
    """A second result, like the indices of a sort: it depends on the images, and nothing is known about it."""


class LinearDomain(Domain[Ref, LinearCall]):
    """The steps that compute every value, in the order of execution.

    Args:
        graph: of the network.
        shape: of one image.
    """

    rule = "linear relaxation"
    rules = relaxations
    refusals = REFUSALS
    advice = (
        'Add one: a function with @relaxation("{op}") in a file under '
        f"{Path(str(rules_package.__file__)).parent}. Without it --method gap and smoothing remain."
    )
    element = Ref

    def __init__(self, graph: Graph, shape: tuple[int, ...]) -> None:
        super().__init__(graph)
        self.steps: list[Step] = []
        self.shapes = {graph.images: shape}

    def images(self, node: fx.Node) -> Ref:
        """Return the images, which no step computes."""
        return Ref(node.name, self.shapes[node.name])

    def bind(self, node: fx.Node, op: str, layer: str, given: dict[str, Any]) -> LinearCall:
        """Return an op with its constants in float64."""
        call = LinearCall(node, op, layer, {name: _wide(value) for name, value in given.items()}, graph=self.graph)
        if op != "mul" and any(isinstance(self.values[n.name], _Jump) for n in node.all_input_nodes):
            call.refuse("it reads indices, which jump")
        return call

    def apply(self, call: LinearCall, rule: Rule) -> Any:
        """Keep the steps of an op."""
        return self._keep(rule(call))

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
