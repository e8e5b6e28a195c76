"""Linear relaxations of single operators; one file a family, one registered function a rule.

A rule takes a `LinearCall` and returns a step (a list of them, or of None, for an op with several results). It is found
by the name of the ATen op, without its overload::

    @relaxation("relu")
    def relu(call: LinearCall) -> Step: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, cast

from torch import Tensor

from robcert.bounds.linear.layout import FIRST, from_front, image_shape, to_front
from robcert.errors import EvaluationError
from robcert.graph.call import OpCall
from robcert.graph.placement import BatchAxis, Placed
from robcert.graph.read import Graph
from robcert.registry import Registry


@dataclass(frozen=True)
class Ref:
    """A value that depends on the images.

    Attributes:
        name: of the value.
        shape: of one image (`robcert.bounds.linear.layout`).
        at: where the graph has the images.
    """

    name: str
    shape: tuple[int, ...]
    at: BatchAxis = FIRST


@dataclass(frozen=True)
class LinearCall(OpCall[Ref]):
    """An op of the graph (see `robcert.graph.call.OpCall`); its constants are float64 tensors and Python numbers."""

    element: ClassVar[type] = Ref

    graph: Graph = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the (first) result, one image."""
        return self.shapes[0]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of every result, one image.

        Raises:
            EvaluationError: the images are not along the first axis, and the rule counts on it.
        """
        found: list[tuple[int, ...]] = []
        for placed in cast("tuple[Placed, ...]", self.graph.placements[self.node.name]):
            if placed.at is None or not (placed.at.plain or self.op in ANYWHERE):
                self.refuse("the images are not along the first axis of its result")
            shape = image_shape(placed)
            if not shape:
                self.refuse("its result has no axis but that of the images: keep one (keepdim)")
            found.append(shape)
        return found

    @property
    def plain(self) -> bool:
        """True where the images lie along the first axis of the result."""
        return all(one.at is None or one.at.plain for one in cast("Any", self.graph.placements[self.node.name]))

    @property
    def head(self) -> tuple[str, str, tuple[str, ...], tuple[int, ...]]:
        """The first four fields of a step."""
        return self.node.name, self.layer, tuple(ref.name for ref in self.operands), self.shape

    def for_image(self, constant: Tensor, rank: int) -> Tensor:
        """A constant as it meets one image in a tensor of so many axes, the images included."""
        if constant.dim() < rank:
            return constant
        # Behind the first axis nothing differs from image to image, or the graph would have been refused.
        return constant[0]

    def apply_to(self, x: Tensor, **changes: Any) -> Any:
        """The op itself, on any number of images in place of the one value that it reads, the images first."""
        found = self.run(lambda ref: from_front(x, ref.at), len(x), **changes)
        placements = cast("tuple[Placed, ...]", self.graph.placements[self.node.name])
        if isinstance(found, Tensor):
            return to_front(found, placements[0].at or FIRST)
        return [to_front(one, placed.at or FIRST) for one, placed in zip(found, placements, strict=True)]

    def refuse(self, found: str, do: str = "") -> NoReturn:
        """Ends the compilation with an error that names the op and the layer."""
        raise EvaluationError(
            f"no linear relaxation of {self.op} in layer {self.layer}: {found}",
            do or "Use --method gap or smoothing for this network, or attack it with --certify gap.",
        )


ANYWHERE = {
    *(
        "linear",
        "view",
        "reshape",
        "_unsafe_view",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "clone",
        "contiguous",
    ),
    *("alias", "detach", "dropout", "permute", "transpose", "t", "mT", "movedim", "moveaxis", "swapaxes", "swapdims"),
    *("select", "slice", "narrow", "unbind", "split", "split_with_sizes", "chunk", "tensor_split"),
}
"""Ops whose rules leave it to the op where the images lie, or do not depend on it."""

Rule = Callable[[LinearCall], Any]

relaxations: Registry[Rule] = Registry("relaxation", "robcert.bounds.linear.rules")
"""Name of an ATen op -> its rule."""

relaxation = relaxations.register
"""Decorator that registers one rule for the named ops."""
