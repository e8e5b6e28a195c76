"""The rounding of one network: sizes of its values, and passes over its graph for any region."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, fx

from robcert.bounds.lipschitz.call import LipschitzCall
from robcert.bounds.lipschitz.network_bound import NetworkBound, network_bounds, propagate
from robcert.bounds.lipschitz.values import Value, product, total
from robcert.bounds.rounding.constants import computed_constants
from robcert.bounds.rounding.domain import RoundingDomain, largest_size
from robcert.bounds.rounding.rules import FLOAT32, FLOAT64, Layer, Unit
from robcert.errors import EvaluationError
from robcert.graph.call import wide
from robcert.graph.interpreter import Interpreter
from robcert.math.rounding import gamma, up
from robcert.types import BoundNorm, LoadedModel

_CHUNK = 128
"""Images that are passed through the graph at once."""


@dataclass(frozen=True)
class RoundingBound:
    """The errors of computed logits, at every float32 input in the box.

    Attributes:
        error: E with |f_i executed in float32 - f_i| <= E for every logit; infinite where none is known.
        pair: D, the same for the difference f_i - f_j of two logits, at most 2 E.
        error64: the same for an evaluation in float64 (`logits64`).
        size: a bound of ||f||_2 over the box.
    """

    error: float
    pair: float
    error64: float
    size: float


class Analysis:
    """The graph of one network, passed through once; bounds are read off as often as they are needed.

    Args:
        model: the network.

    Raises:
        EvaluationError: as `robcert.bounds.lipschitz.network_bound.graph_bound`; an op without a rounding rule.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.name = model.name
        self.box = model.box
        self.shape = model.input_shape
        self.entries = math.prod(model.input_shape)
        self.domain, self.logits = propagate(model)
        self.graph = self.domain.graph
        self.reasons: list[str] = []
        self.linear: dict[str, Layer] = {}
        self.nodes = [n for n in self.graph.nodes if n.op == "call_function" and self._value(n) is not None]
        self.convolutions = any("conv" in self._call(n).op for n in self.nodes)
        self.sized = {n for n in self.graph.nodes if n.op == "call_function" and self._sized(n)}
        self.casts = any(self._call(n).op in ("_to_copy", "to", "type_as") for n in self.nodes)
        self.computed = computed_constants(self.graph, self.domain.values)

    def bound(self) -> RoundingBound:
        """Over the whole box, its ends rounded outwards to float32."""
        low, high = (side + sign * abs(side) * 2.0**-23 for side, sign in zip(self.box, (-1, 1), strict=True))
        centre = low / 2 + high / 2
        radius = up(math.sqrt(self.entries) * max(high - centre, centre - low), 4)
        sizes = self._sizes(torch.full(self.shape, centre, dtype=torch.float64), radius)
        farthest = up(math.sqrt(self.entries) * max(abs(low), abs(high)), 4)
        sizes[self.graph.images] = min(sizes[self.graph.images], farthest)
        error64, _ = self._errors(FLOAT64, sizes)
        if not math.isfinite(error64):
            raise self.refusal()
        self.reasons.clear()
        return RoundingBound(*self._errors(FLOAT32, sizes), error64, sizes[self.logits.node])

    @cached_property
    def lipschitz(self) -> dict[BoundNorm, NetworkBound]:
        """The Lipschitz bounds of the network, from the same pass."""
        return network_bounds(self.domain, self.logits)

    def refusal(self) -> EvaluationError:
        """Return the reason for which there is no finite bound of the rounding error."""
        if self.logits.reasons:
            found = f"there is no finite Lipschitz bound of {self.name}: {'; '.join(self.logits.reasons)}"
            return EvaluationError(found, "robcert norms reports its other layers. Empirical attacks need no bound.")
        reasons = dict.fromkeys(self.reasons)
        return EvaluationError(
            f"no bound of the rounding error of {self.name} is known: {'; '.join(reasons)}",
            "The claim for the network in real arithmetic does not need this.",
        )

    def at(self, x: Tensor, reach: float) -> tuple[float, float]:
        """E and D (`RoundingBound`) for all inputs within l2 distance ``reach`` of one image x."""
        return self._errors(FLOAT32, self._sizes(x.detach().cpu().double(), reach))

    def _sizes(self, x: Tensor, radius: float) -> dict[str, float]:
        """A bound r of the size of every node, for all inputs within ``radius`` of x."""
        measured = self._measured(x)
        off = self._propagate(FLOAT64, measured=measured).errors
        sizes = {self.graph.images: total(measured[self.graph.images], radius)}
        for node in self.nodes:
            value = self._known(node)
            centre = total(measured.get(node.name, math.inf), off[node.name])
            near = total(centre, product(value.bounds.l2, radius))
            moved = (
                product(gain.l2, total(sizes[name], measured.get(name, math.inf), off[name]))
                for name, gain in value.sources
            )
            sizes[node.name] = min(near, total(centre, *moved), largest_size(self._call(node), value))
        return sizes

    def _errors(self, unit: Unit, sizes: dict[str, float]) -> tuple[float, float]:
        """Bounds of the error of every logit and of every difference of two, for values of such sizes.

        With an l2 error d of all logits the difference of two is off by at most sqrt(2) d (Cauchy and Schwarz).
        """
        found = self._propagate(unit, sizes=sizes)
        d, largest = found.errors[self.logits.node], found.largest
        return min(d, largest), min(up(math.sqrt(2) * d, 4), 2 * largest)

    def _propagate(self, unit: Unit, **sizes: dict[str, float]) -> RoundingDomain:
        domain = RoundingDomain(self.domain, self.logits.node, unit, self.linear, self.reasons, **sizes)
        Interpreter(domain).run()
        return domain

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
            found = self.domain.values[node.name]
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
        """Return whether a node that reads no image has a number of images in it."""
        placed = self.graph.placements.get(node.name)
        return placed is None or (isinstance(placed, tuple) and any(one.at is not None for one in placed))

    def _known(self, node: fx.Node) -> Value:
        return cast("Value", self._value(node))

    def _value(self, node: fx.Node) -> Value | None:
        found = self.domain.values[node.name]
        return found if isinstance(found, Value) else None

    def _call(self, node: fx.Node) -> LipschitzCall:
        """The op that made the value of a node; what picks one of several results stands for the op."""
        if node.target is operator.getitem:
            parent = cast("fx.Node", node.args[0])
            return self.domain.calls.get(f"{parent.name}[{node.args[1]}]") or self.domain.calls[parent.name]
        return self.domain.calls[node.name]
