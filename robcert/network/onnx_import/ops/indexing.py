"""Some entries of a tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.ops.shapes import reshaped
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, Extent, Value, apply

_END = 2**31


@op("Slice", 1)
def slice_attributes(node: Node) -> Apply:
    """Starts, ends and axes are attributes."""
    starts, ends = ([Extent(0, int(v)) for v in node.get(name, [])] for name in ("starts", "ends"))
    axes = node.get("axes")
    return _slice(node, starts, ends, None if axes is None else [int(a) for a in axes], None)


@op("Slice", 10, 11, 13)
def slice_inputs(node: Node) -> Apply:
    """Starts, ends, axes and steps are inputs."""
    return _slice(
        node,
        node.extents(1, "starts"),
        node.extents(2, "ends"),
        node.ints(3, "axes") if node.has(3) else None,
        node.ints(4, "steps") if node.has(4) else None,
    )


def _slice(
    node: Node, starts: list[Extent], ends: list[Extent], axes: list[int] | None, steps: list[int] | None
) -> Apply:
    where = list(range(len(starts))) if axes is None else [node.axis(a) for a in axes]
    pace = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(where) == len(pace):
        node.refuse("its starts, ends, axes and steps are not equally many")
    parts: list[tuple[int, int, int, int]] = []
    for axis, start, end, step in zip(where, starts, ends, pace, strict=True):
        if step == 0:
            node.refuse("a step is 0")
        size = node.x.shape[axis]
        if not size.constant:
            whole = step == 1 and start == Extent(0, 0) and (end == size or end.fixed >= _END or end.per_image)
            if whole or (node.fixed is not None and start.fixed == 0 and end.fixed >= node.fixed and step == 1):
                continue
            node.refuse("it takes some of the images")
        if not start.constant or not end.constant:
            node.refuse("how much it takes depends on the number of images")
        stop = None if step < 0 and end.fixed <= -_END else end.fixed
        parts.append((axis, *slice(start.fixed, stop, step).indices(size.fixed)))
    return apply(_sliced, node.x, parts)


def _sliced(x: Tensor, parts: list[tuple[int, int, int, int]]) -> Tensor:
    for axis, low, high, step in parts:
        if step > 0:
            x = x[(slice(None),) * axis + (slice(low, max(low, high), step),)]
        else:
            x = x.index_select(axis, torch.arange(low, high, step, device=x.device))
    return x


@op("Gather", 1, 11, 13)
def gather(node: Node) -> Apply:
    """Whole slices along an axis, by constant indices of any shape."""
    axis = node.axis(int(node.get("axis", 0)))
    size = node.x.shape[axis]
    if _in_order(node.x, node.input(1)):
        return reshaped(node, list(node.input(1).shape))
    index = node.tensor(1, "indices")
    if not size.constant:
        lifted = node.fixed == 1 and index.numel() == 1 and int(index) in (0, -1)
        node.refuse("it takes some of the images" + (" (the graph was written for one image)" if lifted else ""))
    if index.numel() and (int(index.min()) < -size.fixed or int(index.max()) >= size.fixed):
        node.refuse(f"an index is outside of {size.fixed} entries")
    places = (index.long() % max(size.fixed, 1)).reshape(-1)
    if index.dim() == 0:
        return apply(torch.select, node.x, axis, int(places))
    run = torch.arange(int(places[0]), int(places[0]) + len(places)) if len(places) else places
    if torch.equal(run, places) and index.dim() == 1:
        return apply(torch.narrow, node.x, axis, int(places[0]) if len(places) else 0, len(places))
    return apply(_gather, node.x, axis, places.tolist(), list(index.shape))


def _in_order(x: Value, index: Value) -> bool:
    """Return whether indices are all entries of a flat tensor one after the other, as torch writes ``as_strided``."""
    if x.rank != 1 or not x.computed or index.computed:
        return False
    return all(
        torch.equal(places.reshape(-1), torch.arange(len(flat)))
        for flat, places in zip(x.probes, index.probes, strict=True)
    )


def _gather(x: Tensor, axis: int, places: list[int], shape: list[int]) -> Tensor:
    found = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
    return found if len(shape) == 1 else found.unflatten(axis, shape)


@op("GatherND", 11, 12, 13)
def gather_nd(node: Node) -> Apply:
    """Slices at places of the first axes, by constant indices: each row of the last axis of the indices is a place."""
    if node.get("batch_dims", 0):
        node.refuse(f"batch_dims is {node.get('batch_dims')}, and only 0 is known")
    depth, places = _places(node)
    return apply(_gather_nd, node.x, depth, places.reshape(-1).tolist(), list(places.shape))


@op("ScatterND", 11, 13, 16, 18)
def scatter_nd(node: Node) -> Apply:
    """A tensor with other slices at places of its first axes, by constant indices."""
    _check_no_reduction(node)
    depth, places = _places(node)
    flat = places.reshape(-1)
    if len(flat.unique()) < len(flat):
        node.refuse("a place is written twice")
    return apply(_scatter_nd, node.x, node.input(2), depth, flat.tolist())


def _places(node: Node) -> tuple[int, Tensor]:
    """Return the number of axes that constant indices go through, and the places (int64) in these axes made one."""
    index = node.tensor(1, "indices").long()
    if index.dim() == 0 or not 1 <= index.shape[-1] <= node.x.rank:
        node.refuse(f"its indices have shape {tuple(index.shape)}, its tensor has {node.x.rank} axes")
    depth = index.shape[-1]
    if not all(size.constant for size in node.x.shape[:depth]):
        node.refuse("it takes some of the images")
    sizes = torch.tensor([size.fixed for size in node.x.shape[:depth]])
    if index.numel() and bool(((index < -sizes) | (index >= sizes)).any()):
        node.refuse(f"an index is outside of {sizes.tolist()} entries")
    steps = torch.tensor([int(sizes[axis + 1 :].prod()) for axis in range(depth)])
    return depth, ((index % sizes.clamp(min=1)) * steps).sum(-1)


def _scatter_nd(x: Tensor, updates: Tensor, depth: int, places: list[int]) -> Tensor:
    flat = x.flatten(0, depth - 1)
    index = torch.tensor(places, dtype=torch.int64, device=x.device)
    return flat.index_copy(0, index, updates.reshape(-1, *flat.shape[1:])).unflatten(0, x.shape[:depth])


def _gather_nd(x: Tensor, depth: int, places: list[int], shape: list[int]) -> Tensor:
    found = x.flatten(0, depth - 1).index_select(0, torch.tensor(places, dtype=torch.int64, device=x.device))
    return found.unflatten(0, shape) if shape else found.squeeze(0)


@op("GatherElements", 11, 13)
def gather_elements(node: Node) -> Apply:
    """Entry by entry along an axis."""
    return apply(_gather_elements, node.x, node.axis(int(node.get("axis", 0))), node.input(1))


def _gather_elements(x: Tensor, axis: int, index: Tensor) -> Tensor:
    return x.gather(axis, index.long() % x.shape[axis])


@op("ScatterElements", 11, 13, 16, 18)
def scatter_elements(node: Node) -> Apply:
    """A tensor with other entries at places along an axis."""
    _check_no_reduction(node)
    axis = node.axis(int(node.get("axis", 0)))
    return apply(_scatter_elements, node.x, axis, node.input(1), node.input(2))


def _scatter_elements(x: Tensor, axis: int, index: Tensor, updates: Tensor) -> Tensor:
    return x.scatter(axis, index.long() % x.shape[axis], updates)


def _check_no_reduction(node: Node) -> None:
    if node.get("reduction", "none") not in ("none", b"none"):
        node.refuse(f"reduction is {node.get('reduction')!r}, and only none is known")


@op("Trilu", 14)
def triangle(node: Node) -> Apply:
    """The part above or below a diagonal."""
    k = node.ints(1, "diagonal")[0] if node.has(1) else 0
    return apply(torch.triu if node.get("upper", 1) else torch.tril, node.x, k)


@op("NonZero", 9, 13)
def non_zero(node: Node) -> Apply:
    """The positions of entries that are not zero, of a constant."""
    if not node.x.constant:
        node.refuse("its answer depends on the images")
    found = torch.nonzero(node.x.probes[0]).T.contiguous()
    return apply(lambda: found)


@op("ArgMax", 11, 12, 13)
@op("ArgMin", 11, 12, 13)
def extreme_index(node: Node) -> Apply:
    """The position of the largest or smallest entry along an axis."""
    axis, keep = node.axis(int(node.get("axis", 0))), bool(node.get("keepdims", 1))
    if node.get("select_last_index", 0):
        node.refuse("it asks for the last of several equal entries")
    return apply(torch.argmax if node.op == "ArgMax" else torch.argmin, node.x, axis, keep)


@op("TopK", 10, 11, 24)
def largest(node: Node) -> Apply:
    """The k largest or smallest entries along an axis, and where they are."""
    k = node.ints(1, "k")[0]
    axis, most, ordered = node.axis(int(node.get("axis", -1))), node.get("largest", 1), node.get("sorted", 1)
    if k < 0:
        node.refuse(f"k is {k}")
    return apply(torch.topk, node.x, k, axis, bool(most), bool(ordered))
