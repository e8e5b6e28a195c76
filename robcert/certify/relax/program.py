"""A network as a sequence of steps, compiled once from the graph that it executes."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

import robcert.certify.relax.rules as rules_package
from robcert.certify.relax.pooled import Pooled, pooled
from robcert.certify.relax.rules import Ref, Site, relaxations
from robcert.certify.relax.steps import Step
from robcert.errors import EvaluationError
from robcert.graph.fingerprint import fingerprint
from robcert.graph.interpreter import ruled
from robcert.graph.known import graph_of
from robcert.graph.read import Graph, layer_path, node_label
from robcert.types import LoadedModel

_SHIFTS = ("log_softmax", "_log_softmax")
"""Ops at the end that change all logits by the same amount: they change no margin."""


@dataclass(frozen=True)
class Program:
    """The steps from the images to the logits.

    Attributes:
        images: the name of the value that holds the images.
        steps: in the order of execution; each reads earlier ones.
        logits: the name of the value of the logits, up to a constant that all of them share.
        shapes: of every value, one image.
        targets: values whose intervals are worth refining by linear bounds before they go on: a nonlinear step depends
            on them, and interval arithmetic loses something in them. In the order of execution.
        pooled: convolutions with ReLU and pooling, by the name of the pooled value.
    """

    images: str
    steps: tuple[Step, ...]
    logits: str
    shapes: dict[str, tuple[int, ...]]
    targets: frozenset[str]
    pooled: dict[str, Pooled]

    def until(self, node: str) -> tuple[Step, ...]:
        """The steps up to that value."""
        for k, step in enumerate(self.steps):
            if step.node == node:
                return self.steps[: k + 1]
        return ()

    @property
    def widest(self) -> int:
        """Entries of the largest value, one image."""
        return max(torch.Size(shape).numel() for shape in self.shapes.values())


_KNOWN: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Program]] = WeakKeyDictionary()


def program(model: LoadedModel) -> Program:
    """The steps of a network, kept as long as it is unchanged.

    Raises:
        EvaluationError: an op without a rule (named), or used in a way that has no relaxation; a graph that answers
            differently from the network.
    """
    key = fingerprint(model)
    found = _KNOWN.get(model.module)
    if found is None or found[0] != key:
        found = key, _compile(model)
        _KNOWN[model.module] = found
    return found[1]


def _compile(model: LoadedModel) -> Program:
    unknown: EvaluationError | None = None
    for decompose in (False, True):
        graph = graph_of(model, decompose=decompose)
        try:
            return _Compiler(graph, model.input_shape).run()
        except _Unknown as error:
            unknown = unknown or error
    assert unknown is not None
    raise unknown


_JUMP = object()
"""A second result, like the indices of a sort: it depends on the images, and nothing is known about it."""


class _Unknown(EvaluationError):
    """An op without a rule."""


class _Compiler:
    def __init__(self, graph: Graph, shape: tuple[int, ...]) -> None:
        self.graph = graph
        self.known: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.shapes = {graph.images: shape}

    def run(self) -> Program:
        logits = self.graph.logits
        if node_label(logits) in _SHIFTS and int(cast("int", logits.args[1])) % 2 == 1:
            logits = cast("fx.Node", logits.args[0])
        for node in self.graph.nodes:
            if node.op == "placeholder":
                image = node.name == self.graph.images
                self.known[node.name] = (
                    Ref(node.name, self.shapes[node.name]) if image else self.graph.weights.get(node.name)
                )
            elif node.op == "call_function":
                self.known[node.name] = self._call(node)
            if node.name == logits.name:
                break
        found = self.known[logits.name]
        if not isinstance(found, Ref):
            raise EvaluationError("the logits do not depend on the input: the network is constant")
        steps = _needed(self.steps, found.name)
        names = {self.graph.images, *(step.node for step in steps)}
        shapes = {name: shape for name, shape in self.shapes.items() if name in names}
        targets = _targets(steps, self.graph.images)
        return Program(self.graph.images, steps, found.name, shapes, targets, pooled(steps, found.name))

    def _call(self, node: fx.Node) -> Any:
        if not any(_depends(self.known[n.name]) for n in self.graph.reads(node)):
            return self.graph.constant(node)
        if node.target is operator.getitem:
            return self.known[cast("fx.Node", node.args[0]).name][cast("int", node.args[1])]
        if (number := self.graph.number(node)) is not None:
            return number
        op, layer = node_label(node), layer_path(node, self.graph.paths)
        if op != "mul" and any(self.known[n.name] is _JUMP for n in node.all_input_nodes):
            raise EvaluationError(f"no linear relaxation of {op} in layer {layer}: it reads indices, which jump")
        if op not in relaxations:
            folder = Path(str(rules_package.__file__)).parent
            raise _Unknown(
                f"there is no linear relaxation of the op {op} ({node.target}) of layer {layer}",
                f'Add one: a function with @relaxation("{op}") in a file under {folder}. Without it --method gap and '
                "smoothing remain.",
            )
        given = {name: _wide(value) for name, value in self.graph.arguments(node, self.known).items()}
        site = Site(node, op, layer, given, graph=self.graph)
        return self._keep(ruled(site, lambda: relaxations.get(op)(site)))

    def _keep(self, found: Any) -> Any:
        """A step, several in a row (the last one has the result), or one for each of several results."""
        if found is None:
            return _JUMP
        if isinstance(found, list):
            return [self._keep(one) for one in cast("list[Any]", found)]
        if isinstance(found, tuple):
            return [self._keep(one) for one in cast("tuple[Any, ...]", found)][-1]
        step = cast("Step", found)
        self.steps.append(step)
        self.shapes[step.node] = step.shape
        return Ref(step.node, step.shape)


def _needed(steps: list[Step], logits: str) -> tuple[Step, ...]:
    """Without steps that nothing reads."""
    wanted, kept = {logits}, list[Step]()
    for step in reversed(steps):
        if step.node in wanted:
            wanted.update(step.sources)
            kept.append(step)
    return tuple(reversed(kept))


def _targets(steps: tuple[Step, ...], images: str) -> frozenset[str]:
    """What nonlinear steps read, followed back to where interval arithmetic last lost something.

    A value that one layer computes from the images alone has nothing to lose: its interval is exact (up to the corners
    of a ball that stick out of the box).
    """
    by_name = {step.node: step for step in steps}
    exact = {images}
    for step in steps:
        before = [s for s in step.sources if s in exact]
        single = step.through and step.affine and len(before) == len(step.sources) == 1
        if single:
            exact.add(step.node)
    first = {s.node for s in steps if s.affine and len(s.sources) == 1 and s.sources[0] in exact} | exact
    found: set[str] = set()
    pending = [source for step in steps if not step.affine for source in step.sources]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen or name in first:
            continue
        seen.add(name)
        step = by_name[name]
        if step.through:
            pending += step.sources
        else:
            found.add(name)
    return frozenset(found)


def _depends(known: Any) -> bool:
    return (known is _JUMP or isinstance(known, Ref)) or (
        isinstance(known, list | tuple) and any(_depends(k) for k in cast("list[Any]", known))
    )


def _wide(given: Any) -> Any:
    """Constants in float64."""
    if isinstance(given, list | tuple):
        return [_wide(item) for item in cast("list[Any]", given)]
    return given.detach().cpu().double() if isinstance(given, Tensor) and given.is_floating_point() else given


__all__ = ["Program", "program"]
