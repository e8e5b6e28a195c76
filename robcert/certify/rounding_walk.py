"""The walk over the graph that carries rounding errors (see `robcert.certify.rounding`)."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, fx

from robcert.certify import rounding_functions as _functions  # registers its rules
from robcert.certify import rounding_linear as _linear
from robcert.certify import rounding_moments as _moments
from robcert.certify.rounding_constants import computed_constants
from robcert.certify.rounding_rules import FLOAT32, FLOAT64, RULES, Layer, Local, Unit
from robcert.errors import EvaluationError
from robcert.graph.call import wide
from robcert.graph.export import IMAGES
from robcert.graph.interpreter import ruled
from robcert.lipschitz.call import Call
from robcert.lipschitz.forms import Half
from robcert.lipschitz.graph import NetworkBound, network_bounds, walked
from robcert.lipschitz.values import Value, product, root, root_of_squares, total
from robcert.math.rounding import gamma, up
from robcert.types import LoadedModel, Norm

_JOINS = ("cat", "concat", "concatenate", "stack")
"""Ops that put what they read beside one another."""

_CHUNK = 128
"""Images that are passed through the graph at once."""

_LIMIT = 2.0**120
"""Beyond this size a float32 number may overflow on the way, and no bound is given."""


@dataclass(frozen=True)
class NodeError:
    """What is known about one op of the graph.

    Attributes:
        name: of the layer.
        op: the ATen op.
        size: r, a bound of its l2 norm in real arithmetic.
        local: what it rounds away on its own.
        error: d, how far its executed value is off.
    """

    name: str
    op: str
    size: float
    local: float
    error: float


@dataclass(frozen=True)
class RoundingBound:
    """How far computed logits are from those in real arithmetic, at every float32 input in the box.

    Attributes:
        error: E with |f_i executed in float32 - f_i| <= E for every logit; infinite where none is known.
        error64: the same for an evaluation in float64 (`logits64`).
        size: a bound of ||f||_2 over the box.
        nodes: op by op, for float32, in the order of execution.
    """

    error: float
    error64: float
    size: float
    nodes: tuple[NodeError, ...]


class Analysis:
    """The graph of one network, walked once; bounds are read off as often as they are needed.

    Args:
        model: the network.

    Raises:
        EvaluationError: as `robcert.lipschitz.graph.graph_bound`; an op without a rounding rule.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.name = model.name
        self.box = model.box
        self.shape = model.input_shape
        self.entries = math.prod(model.input_shape)
        self.lipschitz_domain, self.logits = walked(model)
        self.graph = self.lipschitz_domain.graph
        self.reasons: list[str] = []
        self.linear: dict[str, Layer] = {}
        self.nodes = [n for n in self.graph.nodes if n.op == "call_function" and self._value(n) is not None]
        self.convolutions = any("conv" in self._call(n).op for n in self.nodes)
        self.sized = {n for n in self.graph.nodes if n.op == "call_function" and self._sized(n)}
        self.casts = any(self._call(n).op in ("_to_copy", "to", "type_as") for n in self.nodes)
        self.computed = computed_constants(self.graph, self.lipschitz_domain.known)

    def bound(self) -> RoundingBound:
        """Over the whole box, its ends rounded outwards to float32."""
        low, high = (side + sign * abs(side) * 2.0**-23 for side, sign in zip(self.box, (-1, 1), strict=True))
        centre = low / 2 + high / 2
        radius = up(math.sqrt(self.entries) * max(high - centre, centre - low), 4)
        sizes = self._sizes(torch.full(self.shape, centre, dtype=torch.float64), radius)
        farthest = up(math.sqrt(self.entries) * max(abs(low), abs(high)), 4)
        sizes[self.graph.images] = min(sizes[self.graph.images], farthest)
        nodes: list[NodeError] = []
        error64 = self._error(FLOAT64, sizes, [])
        if not math.isfinite(error64):
            raise self.refusal()
        self.reasons.clear()
        return RoundingBound(self._error(FLOAT32, sizes, nodes), error64, sizes[self.logits.node], tuple(nodes))

    @cached_property
    def lipschitz(self) -> dict[Norm, NetworkBound]:
        """The Lipschitz bounds of the network, from the same walk."""
        return network_bounds(self.lipschitz_domain, self.logits)

    def refusal(self) -> EvaluationError:
        """Why there is no finite bound of the rounding error."""
        if self.logits.reasons:
            found = f"there is no finite Lipschitz bound of {self.name}: {'; '.join(self.logits.reasons)}"
            return EvaluationError(found, "robcert norms reports its other layers. Empirical attacks need no bound.")
        reasons = dict.fromkeys(self.reasons)
        return EvaluationError(
            f"no bound of the rounding error of {self.name} is known: {'; '.join(reasons)}",
            "The claim for the network in real arithmetic does not need this.",
        )

    def at(self, x: Tensor, reach: float) -> float:
        """E for all inputs within l2 distance ``reach`` of one image x."""
        return self._error(FLOAT32, self._sizes(x.detach().cpu().double(), reach), [])

    def _sizes(self, x: Tensor, radius: float) -> dict[str, float]:
        """A bound r of the size of every node, for all inputs within ``radius`` of x."""
        measured = self._measured(x)
        off, _ = self._distances(FLOAT64, measured, None, [])
        sizes = {self.graph.images: total(measured[self.graph.images], radius)}
        for node in self.nodes:
            value = self._known(node)
            centre = total(measured.get(node.name, math.inf), off[node.name])
            near = total(centre, product(value.bounds.l2, radius))
            moved = (
                product(gain.l2, total(sizes[name], measured.get(name, math.inf), off[name]))
                for name, gain in value.sources
            )
            sizes[node.name] = min(near, total(centre, *moved), _largest(self._call(node), value))
        return sizes

    def _error(self, unit: Unit, sizes: dict[str, float], nodes: list[NodeError]) -> float:
        distances, largest = self._distances(unit, None, sizes, nodes)
        return min(distances[self.logits.node], largest)

    def _distances(
        self, unit: Unit, measured: dict[str, float] | None, sizes: dict[str, float] | None, nodes: list[NodeError]
    ) -> tuple[dict[str, float], float]:
        """A bound d of the error of every node, and of the largest entry of the logits.

        Args:
            unit: the format of the execution.
            measured: the norms of executed values, where they are known (one image).
            sizes: else bounds r of the exact ones.
            nodes: what is found is appended.
        """
        d: dict[str, float] = {self.graph.images: 0.0}
        largest = math.inf

        def size(name: str) -> float:
            return measured[name] if measured is not None else total(cast("dict[str, float]", sizes)[name], d[name])

        for node in self.nodes:
            value, call = self._known(node), self._call(node)
            moved = total(*(product(gain.l2, d[name]) for name, gain in value.sources))
            if not (math.isfinite(moved) and math.isfinite(value.bounds.l2)):
                d[node.name] = math.inf
                continue
            if call.op not in RULES:
                raise EvaluationError(
                    f"no rounding rule for the op {call.op} of layer {call.layer}, so nothing is claimed about the "
                    f"executed float32 network {self.name}",
                    f'Add one: a function with @local("{call.op}") in robcert/certify/rounding_functions.py.',
                )
            out = total(cast("dict[str, float]", sizes)[node.name], moved) if measured is None else (
                measured[node.name] * (1 + 2.0**-20) + 2.0**-400
            )  # fmt: skip
            # What the Lipschitz rule has read says nothing about this one, which knows all operands by their sizes.
            call = replace(call, read=set[str]())
            call.ignore(*(name for name, given in call.given.items() if any(True for _ in call.elements(given))))
            placed = self.graph.placements[node.name]
            at = Local(call, value, unit, size, out, self.lipschitz_domain.calls, self.linear, self.reasons, placed)
            own = ruled(call, partial(_own, at)) if math.isfinite(at.moved) else math.inf
            if max(own / unit.u, out) > _LIMIT and unit is FLOAT32:
                self.reasons.append(f"{call.layer}: the result of {call.op} may overflow in float32")
                own = math.inf
            together = self._together(call, value, d)
            d[node.name] = total(moved if together is None else min(moved, together), own)
            if node.name == self.logits.node and math.isfinite(own):
                largest = (
                    max(d[name] for name, _ in value.sources)  # each logit is an entry of one of them
                    if call.op in _JOINS
                    else _linear.largest_entry(at, total(*(d[name] for name, _ in value.sources)))
                )
            if sizes is not None:
                nodes.append(NodeError(call.layer, call.op, sizes[node.name], own, d[node.name]))
        return d, largest

    def _together(self, call: Call, value: Value, d: dict[str, float]) -> float | None:
        """Less than the sum, for what stands beside one another: the root of squares; two-sided ReLU: its input."""
        if call.op not in _JOINS:
            return None
        names = [name for name, _ in value.sources]
        beside = root_of_squares(*(d[name] for name in names))
        halves = [cast("Value", self.lipschitz_domain.known[name]).find(Half) for name in names]
        if len(halves) == 2:
            a, b = halves
            if a and b and a.of.node == b.of.node and a.positive != b.positive and a.of.node in d:
                return min(beside, d[a.of.node])
        return beside

    def _measured(self, x: Tensor) -> dict[str, float]:
        """The norm of every node at the image x, in float64, rounded up; inf where it is not finite."""
        found: dict[str, float] = {}
        for name, value in self._run(x.unsqueeze(0)).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                length = float(torch.linalg.vector_norm(value.double()))
                found[name] = up(length * (1 + gamma(value.numel() + 8)), 4) + 2.0**-400
                found[name] = found[name] if math.isfinite(found[name]) else math.inf
        return found

    def _run(self, images: Tensor) -> dict[str, Any]:
        """Every node in float64; what does not depend on the images is as the float32 network computes it."""
        environment: dict[str, Any] = {self.graph.images: images}

        def read(node: fx.Node) -> Any:
            if node.name in environment:
                return environment[node.name]
            found = self.lipschitz_domain.known[node.name]
            return found.double() if isinstance(found, Tensor) and found.is_floating_point() else found

        with torch.no_grad():
            for node in self.graph.nodes:
                if node.op == "call_function" and (node in self.sized or node.name in self.graph.dependent):
                    args, kwargs = fx.node.map_arg((node.args, node.kwargs), read)  # pyright: ignore
                    found = cast("Any", node.target)(*wide(args), **wide(kwargs))
                    floating = isinstance(found, Tensor) and found.is_floating_point()
                    environment[node.name] = found.double() if floating else found
        return environment

    def logits64(self, x: Tensor) -> Tensor:
        """The logits of images x (n, *input_shape) in float64."""
        parts = [self._run(part)[self.graph.logits.name] for part in x.detach().cpu().double().split(_CHUNK)]
        return torch.cat(parts) if parts else torch.zeros(0, self.logits.shape[-1], dtype=torch.float64)

    def _sized(self, node: fx.Node) -> bool:
        """Whether a node that reads no image has a number of images in it."""
        placed = self.graph.placements.get(node.name)
        return placed is None or (isinstance(placed, tuple) and any(one.at is not None for one in placed))

    def _known(self, node: fx.Node) -> Value:
        return cast("Value", self._value(node))

    def _value(self, node: fx.Node) -> Value | None:
        found = self.lipschitz_domain.known[node.name]
        return found if isinstance(found, Value) else None

    def _call(self, node: fx.Node) -> Call:
        """The op that made the value of a node; what picks one of several results stands for the op."""
        if node.target is operator.getitem:
            parent = cast("fx.Node", node.args[0])
            return (
                self.lipschitz_domain.calls.get(f"{parent.name}[{node.args[1]}]")
                or self.lipschitz_domain.calls[parent.name]
            )
        return self.lipschitz_domain.calls[node.name]


def _own(at: Local) -> float:
    """What an op rounds away; where no bound is given, no argument matters."""
    found = RULES[at.call.op](at)
    if not math.isfinite(found):
        at.call.ignore(*at.call.given)
    return found


def _largest(call: Call, value: Value) -> float:
    """A bound of ||h||_2 for one image that holds whatever the op reads; infinite for most ops."""
    entries = max(1.0, value.size / IMAGES)
    if call.op in _moments.NORMALISED:
        return _moments.largest_norm(call, value)
    return product(_functions.BOUNDED.get(call.op, math.inf), root(entries))
