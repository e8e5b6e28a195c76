"""Tensors put together, taken apart and padded."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, Extent, Value, apply, known, method


@op("Concat", 4, 11, 13)
def concatenate(node: Node) -> Apply:
    """Along one axis; in a graph for one image, a constant beside the images is copied for each of them."""
    values = node.given
    if not values:
        node.refuse("it has no inputs")
    axis = node.axis(int(node.get("axis", 0)), values[0].rank)
    batch = next((i for v in values for i, s in enumerate(v.shape) if node.fixed and s.per_image and i != axis), None)
    given = [v if batch is None or v.rank <= batch else _lifted(node, v, batch) for v in values]
    return apply(torch.cat, given, axis)


def _lifted(node: Node, value: Value, batch: int) -> Value | Apply:
    if value.shape[batch] != Extent(0, node.fixed or 1) or node.fixed != 1:
        return value
    sizes = [Extent(1, 0) if axis == batch else size for axis, size in enumerate(value.shape)]
    return apply(method("expand"), value, sizes)


@op("Split", 2, 11)
def split_attribute(node: Node) -> Apply:
    """The sizes of the parts are an attribute; equal parts by default."""
    return _split(node, [int(s) for s in node.get("split") or []], node.outputs)


@op("Split", 13, 18)
def split(node: Node) -> Apply:
    """The sizes of the parts are an input, or equal (the last one smaller, since 18)."""
    sizes = node.ints(1, "sizes") if node.has(1) else []
    return _split(node, sizes, int(node.get("num_outputs", node.outputs)))


def _split(node: Node, sizes: list[int], parts: int) -> Apply:
    axis = node.axis(int(node.get("axis", 0)))
    whole = node.x.shape[axis]
    if not whole.constant:
        node.refuse("it takes the images apart")
    if not sizes:
        part = -(-whole.fixed // max(parts, 1))
        sizes = [part] * (parts - 1) + [whole.fixed - part * (parts - 1)]
    if sum(sizes) != whole.fixed or min(sizes) < 0:
        node.refuse(f"its parts {sizes} do not add up to {whole.fixed}")
    return apply(torch.split, node.x, sizes, axis)


@op("Pad", 2)
def pad_attributes(node: Node) -> Apply:
    """The widths and the value are attributes."""
    return _pad(node, [int(p) for p in node.get("pads", [])], float(node.get("value", 0.0)), None)


@op("Pad", 11, 13, 18, 19, 21, 23, 24, 25)
def pad(node: Node) -> Apply:
    """The widths, the value and (since 18) the axes are inputs."""
    value = node.optional(2, "value")
    axes = node.ints(3, "axes") if node.has(3) else None
    return _pad(node, node.ints(1, "widths"), 0.0 if value is None else float(value.item()), axes)


def _pad(node: Node, widths: list[int], value: float, axes: list[int] | None) -> Apply:
    mode, rank = node.get("mode", "constant"), node.x.rank
    where = list(range(rank)) if axes is None else [node.axis(a) for a in axes]
    if len(widths) != 2 * len(where):
        node.refuse(f"it has {len(widths)} widths for {len(where)} axes")
    low, high = [0] * rank, [0] * rank
    for position, axis in enumerate(where):
        low[axis], high[axis] = widths[position], widths[position + len(where)]
    first = next((a for a in range(rank) if low[a] or high[a]), rank)
    if first == rank:
        return apply(torch.clone, node.x)
    ends = [p for a in reversed(range(first, rank)) for p in (low[a], high[a])]
    if mode == "constant":
        return apply(functional.pad, node.x, ends, "constant", value)
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        node.refuse(f"its mode is {mode!r}")
    if rank in (3, 4, 5) and first >= 2 and min(ends) >= 0:
        wide = [p for a in reversed(range(2, rank)) for p in (low[a], high[a])]
        return apply(functional.pad, node.x, wide, names[mode])
    indices: dict[int, Tensor] = {}
    for axis in (a for a in range(first, rank) if low[a] or high[a]):
        size = node.x.shape[axis]
        if not size.constant or low[axis] < 0 or high[axis] < 0:
            node.refuse("it pads the images, or by a negative width")
        indices[axis] = _positions(size.fixed, low[axis], high[axis], mode)
    return selected(node, indices)


def selected(node: Node, places: dict[int, Tensor]) -> Apply:
    """Return the entries at these places of some axes."""
    return apply(_selected, node.x, list(places), [known(node.name, place) for place in places.values()])


def _positions(size: int, low: int, high: int, mode: str) -> Tensor:
    """The entry that stands at each place of a padded axis."""
    places = torch.arange(-low, size + high)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    period = max(2 * (size - 1), 1)
    return (size - 1 - (places % period - (size - 1)).abs()).clamp(0, size - 1)


def _selected(x: Tensor, axes: list[int], indices: list[Tensor]) -> Tensor:
    for axis, index in zip(axes, indices, strict=True):
        x = x.index_select(axis, index)
    return x
