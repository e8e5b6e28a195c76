"""The axis of the images in every value of a graph, and the proof that none of them sees another.

A certificate speaks of one image, so an operator must treat the images one by one. This is decided by looking at the
operators (`robcert.graph.batch_rules` has a rule for every one), never by comparing answers: the number of images is a
symbol, so each value has one axis whose size is a multiple of it, and a rule says whether its operator works along that
axis. An operator that draws at random, or whose arguments depend on the number of images, is refused too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import torch
from torch import Tensor, fx

from robcert.errors import EvaluationError
from robcert.graph.call import Extent, OpCall, Spec, by_name, size, specs
from robcert.graph.export import IMAGES
from robcert.graph.functional import is_random
from robcert.graph.placement import BatchAxis, Placed, Placement, Unknown, layer_path, node_label
from robcert.registry import Registry

if TYPE_CHECKING:
    from robcert.graph.read import Graph

Rule = Callable[["BatchCall"], "BatchAxis | list[BatchAxis | None] | None"]

batch_rules: Registry[Rule] = Registry("batch rule", "robcert.graph.batch_rules")
"""Name of an ATen operator -> what it does to the axis of the images."""

batch_rule = batch_rules.register
"""Decorator that registers one rule for the named operators."""


@dataclass(frozen=True)
class BatchCall(OpCall[Placed]):
    """An operator, all of whose tensors are known by shape and by where the images lie in them."""

    element: ClassVar[type] = Placed

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self.given[name]  # numbers of images as they are

    @property
    def tensors(self) -> list[Placed]:
        """All tensors among the arguments."""
        return [element for value in self.given.values() for element in self.elements(value)]

    @property
    def with_images(self) -> list[Placed]:
        """Those that hold images."""
        return [tensor for tensor in self.tensors if tensor.at is not None]

    @property
    def first(self) -> Placed:
        """The one tensor that holds images, which is the first argument.

        Raises:
            EvaluationError: another argument holds images.
        """
        name = next(iter(self.given))
        for other, value in self.given.items():
            if other != name and any(tensor.at is not None for tensor in self.elements(value)):
                self.refuse(f"its {other} depends on the input")
        return cast("Placed", self.given[name])

    def axes(self, name: str, rank: int) -> list[int]:
        """The axes that an argument names, all of them where it names none."""
        given = self[name]
        if given is None or given == []:
            return list(range(rank))
        listed = cast("list[int]", [given] if isinstance(given, int) else list(given))
        return [axis % max(rank, 1) for axis in listed]

    def along(self, tensor: Placed, axes: list[int], what: str) -> None:
        """Refuse an operator that works along the axis of the images."""
        if tensor.at is not None and tensor.at.axis in axes:
            self.mixes(what)

    def kept(self, tensor: Placed, index: int = 0) -> BatchAxis | None:
        """The images of a result whose entries along their axis are those of ``tensor``, wherever that axis went."""
        axis = self.axis_of(index)
        return None if tensor.at is None or axis is None else replace(tensor.at, axis=axis)

    def axis_of(self, index: int = 0) -> int | None:
        """The one axis of a result whose size is a multiple of the number of images."""
        axes = [k for k, extent in enumerate(self.results[index].shape) if isinstance(extent, Extent)]
        return axes[0] if len(axes) == 1 else None

    def mixes(self, how: str) -> NoReturn:
        """End the analysis: an answer would not be that of one image alone."""
        self.refuse(
            f"the answer to an image depends on the other images of the batch: {how}",
            "A bound for an image does not exist. Does a normalisation take the statistics of the batch?",
        )


def broadcast(call: BatchCall, tensors: list[Placed], rank: int) -> BatchAxis | None:
    """Return where the images lie in a result of so many axes, into which all tensors are broadcast.

    Raises:
        EvaluationError: they hold the images along different axes.
    """
    found: BatchAxis | None = None
    for tensor in tensors:
        if tensor.at is None:
            continue
        at = replace(tensor.at, axis=tensor.at.axis + rank - tensor.rank)
        if found is None:
            found = at
        elif found.axis != at.axis or not found.fits(at):
            call.mixes("its operands hold the images along different axes")
        elif found.uniform:
            found = at
    return found


def per_image(tensor: Tensor, placed: Placement) -> Tensor:
    """Return the entries of every image of a tensor for `IMAGES` images, as rows.

    Args:
        tensor: of the shape of the value.
        placed: where the images lie in it.
    """
    at = placed[0].at if isinstance(placed, tuple) else None
    if at is None:
        return tensor.reshape(1, -1)
    split = tensor.reshape(*tensor.shape[: at.axis], at.outer, IMAGES, at.inner, *tensor.shape[at.axis + 1 :])
    return split.movedim(at.axis + 1, 0).reshape(IMAGES, -1)


def place(graph: Graph) -> Mapping[str, Placement]:
    """Return for every node of a graph where the images lie in its results, or why that is not known."""
    found: dict[str, Placement] = {}
    for node in graph.nodes:
        try:
            placement = _placed(node, graph, found)
        except EvaluationError as error:
            placement = Unknown(error.found)
        except ValueError as error:
            where = f"{node_label(node)} in layer {layer_path(node, graph.paths)}"
            placement = Unknown(f"{where}: the size of its result is not understood: {error}")
        if placement is not None:
            found[node.name] = placement
    return found


def _placed(node: fx.Node, graph: Graph, found: dict[str, Placement]) -> Placement | None:
    value = node.meta.get("val")
    if node.op == "placeholder":
        if node.name != graph.images:
            return tuple(Placed(spec, None) for spec in specs(node)) if isinstance(value, Tensor) else None
        return (Placed(specs(node)[0], BatchAxis(0)),)
    if node.op != "call_function" or not _is_tensors(value):
        return None  # a number; what uses it is asked
    if node.target is operator.getitem:
        source = found[cast("fx.Node", node.args[0]).name]
        return source if isinstance(source, Unknown) else (source[cast("int", node.args[1])],)
    for read in node.all_input_nodes:
        before = found.get(read.name)
        if isinstance(before, Unknown):
            return before
    op, layer = node_label(node), layer_path(node, graph.paths)
    if is_random(node) and not _idle(node):
        raise EvaluationError(f"{op} in layer {layer}: it draws at random", "A random network has no bound.")
    results = specs(node)
    given = _arguments(node, found)
    call = BatchCall(node, op, layer, given)
    numbers = [name for name, value in given.items() if _depends_on_number(value)]
    symbolic = any(isinstance(extent, Extent) for spec in results for extent in spec.shape)
    if not (call.with_images or numbers or symbolic):
        return tuple(Placed(spec, None) for spec in results)
    if op not in batch_rules:
        return Unknown(f"{op} in layer {layer}: it is not known what it does to the images of a batch")
    axes = batch_rules.get(op)(call)
    for name in numbers:
        if name not in call.read:
            call.refuse(f"its {name} depends on the number of images", "An answer must depend on its image alone.")
    listed = axes if isinstance(axes, list) else [axes] * len(results)
    return tuple(_checked(call, spec, at) for spec, at in zip(results, listed, strict=True))


def _checked(call: BatchCall, spec: Spec, at: BatchAxis | None) -> Placed:
    """The result as a rule placed it, held against its shape."""
    axes = [k for k, extent in enumerate(spec.shape) if isinstance(extent, Extent)]
    if not axes and (0 in spec.shape or not call.with_images):
        return Placed(spec, None)
    if len(axes) != 1:
        call.mixes(f"its result has {len(axes)} axes whose size is a multiple of the number of images")
    times = cast("Extent", spec.shape[axes[0]]).times
    if at is None or at.axis != axes[0] or at.outer * at.inner != times:
        call.mixes("it moves the images in a way that is not understood")
    return Placed(spec, at)


def _arguments(node: fx.Node, found: Mapping[str, Placement]) -> dict[str, Any]:
    """The arguments by name: a `Placed` for a tensor, an `Extent` for a number of images."""

    def known(read: fx.Node) -> Any:
        placement = found.get(read.name)
        if isinstance(placement, tuple):
            several = isinstance(read.meta["val"], (list, tuple))
            return list(placement) if several else placement[0]
        return size(read.meta["val"]) if isinstance(read.meta["val"], (torch.SymInt, int)) else _NUMBER

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), known)  # pyright: ignore
    return by_name(node.target, tuple(args), dict(kwargs))


class _Number:
    """A fraction, or a truth, that depends on the number of images."""


_NUMBER = _Number()


def _depends_on_number(given: Any) -> bool:
    if isinstance(given, (list, tuple)):
        return any(map(_depends_on_number, cast("list[Any]", given)))
    return isinstance(given, (Extent, _Number))


def _is_tensors(value: Any) -> bool:
    several = cast("list[Any]", value if isinstance(value, (list, tuple)) else [value])
    return any(isinstance(one, Tensor) for one in several)


def _idle(node: fx.Node) -> bool:
    """Return whether an operator that may draw does not, as dropout in eval mode."""
    given = by_name(node.target, tuple(node.args), dict(node.kwargs))
    return any(given.get(name, True) == 0 for name in ("train", "training", "dropout_p"))
