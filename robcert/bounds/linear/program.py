"""A network as a sequence of steps, compiled once from the graph that it executes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

from robcert.bounds.linear.convolution import Convolution, Transposed
from robcert.bounds.linear.domain import LinearDomain
from robcert.bounds.linear.fused import FusedConvReLUPool, find_fused
from robcert.bounds.linear.step import Rounding, Step
from robcert.bounds.rounding.constants import check_constants, computed_constants
from robcert.bounds.rounding.entrywise.functions import shifted_logits
from robcert.bounds.rounding.kernels import check_kernels, device_of
from robcert.errors import EvaluationError
from robcert.graph.cache import graph_of
from robcert.graph.fingerprint import fingerprint
from robcert.graph.interpreter import Interpreter, decomposed_if_needed
from robcert.graph.placement import node_label
from robcert.graph.read import Graph
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
        fused: convolutions with ReLU and pooling, by the name of the pooled value.
        graph: what the steps were compiled from.
        roundings: what the execution in float32 adds to the exact result of a step, by the name of the result; of a
            step without one, nothing. That of the logits includes the shift of all of them that was left out.
        refused: why nothing is claimed about the executed network; "" where something is.
    """

    images: str
    steps: tuple[Step, ...]
    logits: str
    shapes: dict[str, tuple[int, ...]]
    targets: frozenset[str]
    fused: dict[str, FusedConvReLUPool]
    graph: Graph = field(repr=False)
    roundings: dict[str, Rounding] = field(default_factory=dict[str, Rounding])
    refused: str = ""

    def until(self, node: str) -> tuple[Step, ...]:
        """The steps up to that value."""
        for k, step in enumerate(self.steps):
            if step.node == node:
                return self.steps[: k + 1]
        return ()

    @cached_property
    def exact(self) -> Program:
        """The same steps in real arithmetic."""
        return replace(self, roundings={})

    @property
    def widest(self) -> int:
        """Entries of the largest value, one image."""
        return max(torch.Size(shape).numel() for shape in self.shapes.values())


_KNOWN: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Program]] = WeakKeyDictionary()


def program(model: LoadedModel) -> Program:
    """Return the steps of a network, kept as long as it is unchanged.

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


def refusal(model: LoadedModel) -> str:
    """Return why nothing is claimed about the network as torch, as it is set up now, executes it; "" where it is.

    Raises:
        EvaluationError: the network has no steps (`program`).
    """
    network = program(model)
    if network.refused:
        return network.refused
    convolutions = any(isinstance(step, Convolution | Transposed) for step in network.steps)
    try:
        check_kernels(device_of(model), convolutions=convolutions, name=model.name)
    except EvaluationError as error:
        return error.found
    return ""


def _compile(model: LoadedModel) -> Program:
    def compiled(decompose: bool) -> Program:
        domain = LinearDomain(graph_of(model, decompose=decompose), model.input_shape)
        logits = domain.graph.logits
        shifted = node_label(logits) in _SHIFTS and int(cast("int", logits.args[1])) % 2 == 1
        if shifted:
            logits = cast("fx.Node", logits.args[0])
        found = Interpreter(domain).run(until=logits)
        roundings = dict(domain.roundings)
        if shifted:
            roundings[found.name] = shifted_logits(roundings.get(found.name))
        images = domain.graph.images
        steps = _needed(domain.steps, found.name)
        names = {images, *(step.node for step in steps)}
        shapes = {name: shape for name, shape in domain.shapes.items() if name in names}
        fused = find_fused(steps, found.name)
        roundings = {name: one for name, one in roundings.items() if name in names}
        refused, wanted = _refusal(model, domain), targets(steps, images)
        return Program(images, steps, found.name, shapes, wanted, fused, domain.graph, roundings, refused)

    return decomposed_if_needed(compiled)


def _refusal(model: LoadedModel, domain: LinearDomain) -> str:
    """Return why no claim about the executed network is made, or ""."""
    if domain.unknown:
        return "; ".join(dict.fromkeys(domain.unknown))
    try:
        values = {**dict.fromkeys(node.name for node in domain.graph.nodes), **domain.values}
        check_constants(model.name, computed_constants(domain.graph, values), domain.graph)
    except EvaluationError as error:
        return error.found
    return ""


def _needed(steps: list[Step], logits: str) -> tuple[Step, ...]:
    """Without steps that nothing reads."""
    wanted, kept = {logits}, list[Step]()
    for step in reversed(steps):
        if step.node in wanted:
            wanted.update(step.sources)
            kept.append(step)
    return tuple(reversed(kept))


def targets(steps: tuple[Step, ...], images: str) -> frozenset[str]:
    """Return what nonlinear steps read, followed back to where interval arithmetic last lost something.

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


__all__ = ["Program", "program", "refusal", "targets"]
