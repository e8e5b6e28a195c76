"""The same entries in another shape, copies of them, several tensors as one, constants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

from robcert.graph.batch import BatchCall, batch_rule
from robcert.graph.call import Extent
from robcert.graph.placement import BatchAxis, Placed


@batch_rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "reshape_as",
            "view_as")  # fmt: skip
def reshape(call: BatchCall) -> BatchAxis | None:
    """The same entries in the same order: counted through, image k holds the entries that it held before.

    With P blocks of all images before and S entries of one image behind it in the flat order, entry f belongs to image
    (f // S) % n. A new axis of size k n with B entries behind it keeps that if B divides S, and S / B divides k.
    """
    x = cast("Placed", call.given["self"])
    call.ignore("size", "shape", "sizes", "other")  # the shape of the result says it
    if "dtype" in call.given:
        call.refuse("it reads the bits of its input as another type")
    axis = call.axis_of()
    if x.at is None or axis is None:
        return None
    before, after = x.spec.shape, call.results[0].shape
    if not all(isinstance(s, int) for s in (*before[: x.at.axis], *before[x.at.axis + 1 :])):
        return None
    entries = x.at.inner * math.prod(cast("tuple[int, ...]", before[x.at.axis + 1 :]))
    behind = math.prod(cast("tuple[int, ...]", after[axis + 1 :]))
    times = cast("Extent", after[axis]).times
    if behind == 0 or entries % behind or times % (entries // behind):
        call.mixes("it counts through the entries of several images")
    inner = entries // behind
    return BatchAxis(axis, times // inner, inner, x.at.uniform)


@batch_rule("expand", "expand_as")
def expand(call: BatchCall) -> BatchAxis | None:
    """Copies along axes of size 1; a constant becomes one for every image."""
    x = cast("Placed", call.given["self"])
    call.ignore("size", "other")  # the shape of the result says it
    axis = call.axis_of()
    if axis is None:
        return None
    rank = len(call.results[0].shape)
    if x.at is None:
        return BatchAxis(axis, cast("Extent", call.results[0].shape[axis]).times, uniform=True)
    return replace(x.at, axis=x.at.axis + rank - x.rank)


@batch_rule("repeat", "tile")
def repeat(call: BatchCall) -> BatchAxis | None:
    """Copies one behind the other."""
    x = cast("Placed", call.given["self"])
    times = cast("list[int | Extent]", call["repeats"] if "repeats" in call.given else call["dims"])
    rank = len(call.results[0].shape)
    times = [1] * (rank - len(times)) + list(times)
    if x.at is not None:
        if times[x.at.axis + rank - x.rank] != 1 or any(isinstance(t, Extent) for t in times):
            call.mixes("it repeats the images")
        return replace(x.at, axis=x.at.axis + rank - x.rank)
    axis = call.axis_of()
    if axis is None or not isinstance(times[axis], Extent):
        return None
    own = x.spec.shape[axis - (rank - x.rank)] if axis >= rank - x.rank else 1
    return BatchAxis(axis, cast("Extent", times[axis]).times, cast("int", own), uniform=own == 1)


@batch_rule("repeat_interleave")
def repeat_interleave(call: BatchCall) -> BatchAxis | None:
    """Copies of every entry along an axis."""
    x = call.first
    if "repeats" not in call.given or "self" not in call.given:
        call.refuse("it counts")
    axes = list(range(x.rank)) if call["dim"] is None else call.axes("dim", x.rank)
    call.along(x, axes, "it repeats them")
    return call.kept(x)


@batch_rule("cat", "concat", "concatenate", "stack")
def joined(call: BatchCall) -> BatchAxis | None:
    """One behind the other along an axis."""
    rank = len(call.results[0].shape)
    axis = cast("int", call["dim"]) % rank
    found: BatchAxis | None = None
    tensors = [tensor for tensor in call.tensors if 0 not in tensor.spec.shape]
    if len(tensors) == 1 and call.op != "stack":
        return call.kept(tensors[0])
    for tensor in tensors or call.tensors:
        at = tensor.at
        if at is None:
            call.mixes("it puts a constant beside several images")
        at = replace(at, axis=at.axis + (call.op == "stack" and axis <= at.axis))
        if at.axis == axis:
            call.mixes("it puts batches one behind the other")
        if found is not None and (found.axis != at.axis or not found.fits(at)):
            call.mixes("its operands hold the images along different axes")
        found = at if found is None or found.uniform else found
    return found


@batch_rule("pad", "constant_pad_nd")
def padded(call: BatchCall) -> BatchAxis | None:
    """Something around the last axes."""
    x = call.first
    sides = cast("list[int]", call["pad"])
    call.along(x, list(range(x.rank - len(sides) // 2, x.rank)), "it pads their axis")
    return call.kept(x)


@batch_rule("pixel_shuffle", "pixel_unshuffle")
def pixels(call: BatchCall) -> BatchAxis | None:
    """Channels as places of a picture, and back: the last three axes."""
    x = call.first
    call.along(x, list(range(x.rank - 3, x.rank)), "it moves pixels between them")
    return call.kept(x)


@batch_rule("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like")
def filled(call: BatchCall) -> BatchAxis | None:
    """One number everywhere."""
    call.ignore("size")  # the shape of the result says it
    axis = call.axis_of()
    return None if axis is None else BatchAxis(axis, cast("Extent", call.results[0].shape[axis]).times, uniform=True)
