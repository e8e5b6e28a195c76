"""Values with the images first, wherever the graph has them.

Networks move the axis of the images, and reshaping puts other axes before or behind the images along one axis (as heads
of attention are). Steps see every value with the images along the first axis: of an axis of outer * images * inner
entries the images go to the front, and outer * inner entries stay, if there are more than one.
"""

from __future__ import annotations

from torch import Tensor

from robcert.graph.placement import BatchAxis, Placed

FIRST = BatchAxis(0)
"""One by one along the first axis."""


def image_shape(placed: Placed) -> tuple[int, ...]:
    """Return the shape of one image of a value that depends on the images."""
    at = placed.at or FIRST
    sizes, beside = list(placed.spec.sizes()), at.outer * at.inner
    return (*sizes[: at.axis], *([beside] if beside > 1 else []), *sizes[at.axis + 1 :])


def to_front(x: Tensor, at: BatchAxis) -> Tensor:
    """Return a value of the graph with the images first: (n, *shape of one image)."""
    if at.plain:
        return x
    beside = at.outer * at.inner
    apart = x.unflatten(at.axis, (at.outer, -1, at.inner)).movedim(at.axis + 1, 0)
    return apart.flatten(1 + at.axis, 2 + at.axis) if beside > 1 else apart.squeeze(2 + at.axis).squeeze(1 + at.axis)


def from_front(x: Tensor, at: BatchAxis) -> Tensor:
    """Return a value with the images first as the graph has it."""
    if at.plain:
        return x
    whole = x if at.outer * at.inner > 1 else x.unsqueeze(1 + at.axis)
    apart = whole.unflatten(1 + at.axis, (at.outer, at.inner)).movedim(0, at.axis + 1)
    return apart.flatten(at.axis, at.axis + 2).contiguous()
