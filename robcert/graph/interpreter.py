"""One pass over a graph for every analysis: it binds operators to calls, and the table of a domain answers them.

A domain is what an analysis knows about a value: how far it moves with the images, between which linear functions it
lies, how far its executed entries are off. What an operator does to that is a rule of the domain, found by the name of
the ATen operator. The pass is the same for all domains: constants are computed, every operator that reads an image is
bound to an `OpCall`, and a rule that has not accounted for all of its arguments is a refusal.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from torch import fx

from robcert.errors import EvaluationError, RobcertError, first_line
from robcert.graph.call import OpCall
from robcert.graph.placement import layer_path, node_label
from robcert.graph.read import Graph
from robcert.registry import Registry

E = TypeVar("E")
C = TypeVar("C", bound=OpCall[Any])
T = TypeVar("T")


class NoRule(EvaluationError):
    """A domain has no rule for an operator; the same network in more common operators may need none."""


class Domain(ABC, Generic[E, C]):
    """The abstract domain of an analysis: what it knows about the values of one graph, and its rules.

    Attributes:
        rule: how messages call a rule of the domain ("Lipschitz rule").
        rules: name of an operator -> its rule.
        refusals: name of an operator -> why the domain claims nothing about its results.
        advice: what to do about an operator without a rule; "{op}" stands for its name.
        element: the type of what is known about a value that depends on the images.
        graph: the network.
        values: name of a node -> what is known about it: an element (a list of them where an operator has several
            results), or the value of a constant.
    """

    rule: ClassVar[str]
    rules: ClassVar[Registry[Any]]
    refusals: ClassVar[Mapping[str, str]]
    advice: ClassVar[str]
    element: ClassVar[type]

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[str, Any] = {}

    @abstractmethod
    def images(self, node: fx.Node) -> E:
        """Return what is known about the images."""

    @abstractmethod
    def bind(self, node: fx.Node, op: str, layer: str, given: dict[str, Any]) -> C:
        """Return an operator with what is known about its arguments."""

    def apply(self, call: C, rule: Any) -> Any:
        """Return what the rule says of the results of an operator."""
        return rule(call)

    def item(self, node: fx.Node, results: Any, index: int) -> Any:
        """Return what is known about one of several results, which ``node`` picks."""
        del node
        return results[index]

    def missing(self, node: fx.Node, op: str, layer: str) -> Any:
        """Return what is known about the result of an operator without a rule.

        Raises:
            NoRule: nothing is known; it names the operator and its layer.
        """
        raise self.without_rule(node, op, layer)

    def without_rule(self, node: fx.Node, op: str, layer: str) -> NoRule:
        """Return the refusal of an operator without a rule."""
        why = f": {self.refusals[op]}" if op in self.refusals else ""
        return NoRule(
            f"there is no {self.rule} for the op {op} ({node.target}) of layer {layer}{why}",
            self.advice.format(op=op),
        )


class Interpreter(Generic[E]):
    """The pass over a graph from the images to the logits.

    Args:
        domain: what is asked about the values; the pass fills its ``values``.
    """

    def __init__(self, domain: Domain[E, Any]) -> None:
        self.domain = domain
        self.graph = domain.graph

    def run(self, until: fx.Node | None = None) -> E:
        """Return what is known about the logits.

        Args:
            until: the node to stop at, in place of the logits.

        Raises:
            NoRule: the domain has no rule for an operator.
            EvaluationError: a rule does not know an argument, or this use of its operator; an answer would not be that
                of one image alone; the logits do not depend on the images.
        """
        values = self.domain.values
        for node in self.graph.nodes:
            if node.op in ("placeholder", "call_function"):
                values[node.name] = self._value(node)
            if node is until:
                break
        found = values[(until or self.graph.logits).name]
        if not isinstance(found, self.domain.element):
            raise EvaluationError("the logits do not depend on the input: the network is constant")
        return cast("E", found)

    def _value(self, node: fx.Node) -> Any:
        domain, graph = self.domain, self.graph
        if node.name == graph.images:
            return domain.images(node)
        if node.name not in graph.dependent:
            return graph.constant(node)
        if node.target is operator.getitem:
            source, index = cast("tuple[fx.Node, int]", node.args)
            return domain.item(node, domain.values[source.name], index)
        op, layer = node_label(node), layer_path(node, graph.paths)
        if op not in domain.rules:
            return domain.missing(node, op, layer)
        rule = domain.rules.get(op)
        call = domain.bind(node, op, layer, graph.arguments(node, domain.values))
        return ruled(call, lambda: domain.apply(call, rule))


def ruled(call: OpCall[Any], rule: Callable[[], T]) -> T:
    """Return what a rule says of a call, if it has accounted for all arguments.

    Raises:
        EvaluationError: it has not, or it does not know this use of the operator: both name operator and layer.
    """
    try:
        found = rule()
    except RobcertError:
        raise
    except Exception as error:  # a use that nobody thought of is refused like one that somebody did
        call.refuse(f"this use of it is not understood ({type(error).__name__}: {first_line(error)})")
    call.check_accounted()
    return found


def decomposed_if_needed(analyse: Callable[[bool], T]) -> T:
    """Return what an analysis says of a graph, or where it has no rule, of that graph in more common operators.

    Args:
        analyse: takes whether rare operators are to be written in terms of common ones.

    Raises:
        NoRule: of the graph as it is, where both ways lack a rule.
    """
    try:
        return analyse(False)
    except NoRule as missing:
        try:
            return analyse(True)
        except NoRule:
            raise missing from None
