"""The same entries in another shape or order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import PROBES, Apply, Extent, Value, apply, by_batch, extent, method


def reshaped(node: Node, wanted: list[Extent]) -> Apply:
    """``x`` in this shape; the size that depends on the number of images becomes -1."""
    dependent = [axis for axis, size in enumerate(wanted) if not size.constant]
    if len(dependent) > 1:
        node.refuse(f"{len(dependent)} of its sizes depend on the number of images")
    sizes = [-1 if axis in dependent else size.fixed for axis, size in enumerate(wanted)]
    return apply(torch.reshape, node.x, sizes)


@op("Reshape", 5, 13, 14, 19, 21, 23, 24, 25)
def reshape(node: Node) -> Apply:
    """To a shape in which 0 copies a size (unless allowzero) and -1 is what remains."""
    target = node.extents(1, "shape")
    shape = node.x.shape
    if not node.get("allowzero", 0):
        for axis, size in enumerate(target):
            if size == Extent(0, 0):
                if axis >= len(shape):
                    node.refuse(f"its shape copies axis {axis}, which its input does not have")
                target[axis] = shape[axis]
    counts = [math.prod(s.at(n) for s in shape) for n in PROBES]
    open_axes = [axis for axis, size in enumerate(target) if size == Extent(0, -1)]
    if len(open_axes) > 1:
        node.refuse("its shape has more than one -1")
    if open_axes and (node.fixed is None or not node.x.computed):
        return reshaped(node, _completed(node, target, open_axes[0], counts))
    if open_axes:
        target = _completed(node, target, open_axes[0], [math.prod(s.at(node.fixed) for s in shape)] * 2, lifted=True)
    if node.fixed is not None and node.x.computed and all(s.constant for s in target):
        target = _lifted(node, target)
    return reshaped(node, target)


def _completed(node: Node, target: list[Extent], axis: int, counts: list[int], *, lifted: bool = False) -> list[Extent]:
    """The shape with its -1 worked out, for 2 and for 3 images."""
    found: list[int] = []
    for n, count in zip(PROBES, counts, strict=True):
        at = node.fixed if lifted else n
        rest = math.prod(size.at(at) for other, size in enumerate(target) if other != axis)
        if rest == 0 or count % rest:
            node.refuse(f"{count} entries do not fit its shape")
        found.append(count // rest)
    return [extent(found[0], found[1]) if other == axis else size for other, size in enumerate(target)]


def _lifted(node: Node, target: list[Extent]) -> list[Extent]:
    """A shape that was written for a fixed batch, for any: the images stay where they are in memory."""
    shape, fixed = node.x.shape, node.fixed
    assert fixed is not None
    batch = next((axis for axis, size in enumerate(shape) if size.per_image), None)
    if batch is None:
        return target
    before = math.prod(size.fixed for size in shape[:batch])
    for axis, size in enumerate(target):
        if math.prod(s.fixed for s in target[:axis]) == before and size.fixed % fixed == 0 and size.fixed:
            return [Extent(s.fixed // fixed, 0) if a == axis else s for a, s in enumerate(target)]
    node.refuse(
        f"the graph was written for {fixed} image(s), and this shape cannot be read for any number",
        "Export the model with a dynamic batch dimension.",
    )


@op("Flatten", 1, 9, 11, 13, 21, 23, 24, 25)
def flatten(node: Node) -> Apply:
    """Two axes: those before ``axis`` and the others."""
    rank, axis = node.x.rank, int(node.get("axis", 1))
    if not -rank <= axis <= rank:
        node.refuse(f"axis {axis} does not exist in a tensor with {rank} axes")
    axis = axis + rank if axis < 0 else axis
    shape = node.x.shape
    ends = [[math.prod(s.at(n) for s in part) for n in PROBES] for part in (shape[:axis], shape[axis:])]
    return reshaped(node, [extent(*end) for end in ends])


def _given_axes(node: Node, index: int = 1) -> list[int] | None:
    """Axes from the attribute (old forms) or the input (new ones)."""
    if node.has(index):
        return node.ints(index, "axes")
    found = node.get("axes")
    return None if found is None else [int(a) for a in found]


@op("Squeeze", 1, 11, 13, 21, 23, 24, 25)
def squeeze(node: Node) -> Apply:
    """Without axes of size 1; a batch of 1 is none, if the graph is read for any number of images."""
    given, shape = _given_axes(node), node.x.shape
    axes = [a for a, s in enumerate(shape) if s == Extent(0, 1)] if given is None else node.axes(given)
    for axis in axes:
        if shape[axis] != Extent(0, 1):
            node.refuse(f"axis {axis} has not size 1", "A network that squeezes the images away cannot be read.")
    return reshaped(node, [size for a, size in enumerate(shape) if a not in axes])


@op("Unsqueeze", 1, 11, 13, 21, 23, 24, 25)
def unsqueeze(node: Node) -> Apply:
    """With axes of size 1, counted in the result."""
    given = _given_axes(node)
    if given is None:
        node.refuse("its axes are missing")
    rank = node.x.rank + len(given)
    axes, rest = set(node.axes(given, rank)), list(node.x.shape)
    return reshaped(node, [Extent(0, 1) if a in axes else rest.pop(0) for a in range(rank)])


@op("Transpose", 1, 13, 21, 23, 24, 25)
def transpose(node: Node) -> Apply:
    """Another order of axes; reversed by default."""
    order = [int(a) for a in node.get("perm") or reversed(range(node.x.rank))]
    return apply(torch.permute, node.x, order)


@op("Expand", 8, 13)
def expand(node: Node) -> Apply:
    """Copies along axes of size 1, to the common shape of both."""
    wanted, shape = node.extents(1, "shape"), list(node.x.shape)
    rank = max(len(wanted), len(shape))
    one = Extent(0, 1)
    left = [one] * (rank - len(shape)) + shape
    right = [one] * (rank - len(wanted)) + wanted
    for axis, (a, b) in enumerate(zip(left, right, strict=True)):
        written = a.per_image and b == Extent(0, a.at(node.fixed or 0))  # the batch that the graph was written for
        if one not in (a, b) and a != b and not written:
            node.refuse(f"axis {axis} has {a.fixed if a.constant else 'one entry an image'}, not {b.fixed}")
    sizes = [b if a == one else a for a, b in zip(left, right, strict=True)]
    return apply(method("expand"), node.x, sizes)


@op("Tile", 6, 13)
def tile(node: Node) -> Apply:
    """Copies one after the other along each axis."""
    counts = node.extents(1, "number of copies")
    if len(counts) != node.x.rank:
        node.refuse(f"it has {len(counts)} numbers of copies for {node.x.rank} axes")
    return apply(method("repeat"), node.x, counts)


@op("DepthToSpace", 1, 11, 13, 28)
def depth_to_space(node: Node) -> Apply:
    """Channels become squares of pixels."""
    size, mode = int(node.get("blocksize", 1)), node.get("mode", "DCR")
    if node.x.rank != 4 or size < 1 or node.channels() % size**2 or mode not in ("DCR", "CRD"):
        node.refuse(f"its input or its mode {mode!r} does not fit blocks of {size}")
    return apply(_depth_to_space, node.x, size, mode)


def _depth_to_space(x: Tensor, size: int, mode: str) -> Tensor:
    if mode == "DCR":
        x = x.unflatten(1, (size * size, -1)).transpose(1, 2).flatten(1, 2)
    return torch.nn.functional.pixel_shuffle(x, size)


@op("SpaceToDepth", 1, 13, 28)
def space_to_depth(node: Node) -> Apply:
    """Squares of pixels become channels."""
    size = int(node.get("blocksize", 1))
    if node.x.rank != 4 or size < 1 or any(s % size for s in node.spatial()):
        node.refuse(f"its input does not fit blocks of {size}")
    return apply(_space_to_depth, node.x, size)


def _space_to_depth(x: Tensor, size: int) -> Tensor:
    channels = x.shape[1]
    found = torch.nn.functional.pixel_unshuffle(x, size)
    return found.unflatten(1, (channels, size * size)).transpose(1, 2).flatten(1, 2)


@op("Shape", 1, 13, 15, 19, 21, 23, 24, 25)
def shape_of(node: Node) -> Value:
    """The sizes, which are known while the file is read."""
    start, end = int(node.get("start", 0)), node.get("end")
    sizes = node.x.shape[slice(start, None if end is None else int(end))]
    return by_batch(node.name, *(torch.tensor([s.at(n) for s in sizes], dtype=torch.int64) for n in PROBES))


@op("Size", 1, 13, 19, 21, 23, 24, 25)
def size_of(node: Node) -> Value:
    """The number of entries."""
    return by_batch(node.name, *(torch.tensor(math.prod(s.at(n) for s in node.x.shape)) for n in PROBES))
