"""Ops that move, drop or copy entries."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from robcert.bounds.lipschitz.call import LipschitzCall, NotFinite
from robcert.bounds.lipschitz.entrywise import padded
from robcert.bounds.lipschitz.patterns import Padded
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.values import ONE, Part, Value, copied
from robcert.graph.call import WIDE

MOVES = (
    *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "permute"),
    *("mT", "mH", "adjoint", "rot90", "ravel", "reshape_as"),
    *("transpose", "t", "numpy_T", "movedim", "clone", "contiguous", "alias", "detach", "lift_fresh_copy"),
    *(
        "flip",
        "roll",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "swapaxes",
        "swapdims",
        "view_as",
        "moveaxis",
    ),
)


@rule(*MOVES, affine=True)
def move(call: LipschitzCall) -> Value:
    """The same entries in another order or shape: 1."""
    x = call.first
    # What they say is in the shape of the result, or an order of the entries.
    call.ignore(
        "size", "shape", "sizes", "dim", "dims", "dim0", "dim1", "start_dim", "end_dim", "axis0", "axis1", "other"
    )
    call.ignore("source", "destination", "k", "shifts", "upscale_factor", "downscale_factor", "groups")
    return call.moved(x, *(x.patterns if call.op in ("clone", "contiguous", "alias", "detach") else ()))


@rule("dropout", "feature_dropout", "alpha_dropout", "native_dropout", affine=True)
def dropout(call: LipschitzCall) -> Any:
    """Nothing, in eval mode."""
    if call["train"] is not False:
        call.refuse("it is random in training mode", "LipschitzCall eval() on the network.")
    call.ignore("p")  # of dropping, which it does not do
    x = call.moved(call.x)
    return [x, None] if call.several else x


@rule("_to_copy", "to", "type_as", affine=True)
def cast_type(call: LipschitzCall) -> Value:
    """A cast to float32 or float64 moves nothing."""
    call.ignore("dtype", "other")  # the type of the result says it
    x, found = call.first, call.results[0].dtype
    if found not in WIDE:
        raise NotFinite(f"it rounds to {found}")
    return call.moved(x)


@rule("slice", "narrow", "select", affine=True)
def cut(call: LipschitzCall) -> Value:
    """A slice: 1, and it remembers which entries it reads."""
    x = call.domain.measure(call.x)
    axis = int(call["dim"]) % len(x.shape)
    size = x.shape[axis]
    if call.op == "select":
        start = int(call["index"]) % size
        stop = start + 1
    elif call.op == "narrow":
        start = int(call["start"]) % max(1, size)
        stop = start + int(call["length"])
    else:
        start, stop, _ = slice(call["start"], call["end"], call["step"]).indices(size)
    return _sliced(call, x, axis, start, stop)


@rule("split", "split_with_sizes", "chunk", "unbind", "tensor_split", affine=True)
def split(call: LipschitzCall) -> list[Value]:
    """Slices: each 1, and together no more than the whole."""
    x = call.domain.measure(call.x)
    axis = int(call["dim"]) % len(x.shape)
    places = torch.arange(x.shape[axis], dtype=torch.float64).view(-1, *([1] * (len(x.shape) - 1 - axis)))
    found: list[Value] = []
    for index, piece in enumerate(cast("list[Tensor]", call.run(lambda _: places.expand(x.shape)))):
        # Pieces may overlap: tensor_split takes any indices.
        start, stop = (int(piece.min()), int(piece.max()) + 1) if piece.numel() else (0, 0)
        found.append(_sliced(call, x, axis, start, stop, tuple(piece.shape), f"{call.node.name}[{index}]"))
    return found


@rule("pad", "constant_pad_nd", affine=True)
def pad(call: LipschitzCall) -> Value:
    """Padding: copies of entries (reflect, replicate, circular), or a constant.

    A convolution behind it takes it in.
    """
    mode = {"constant": "zeros"}.get(call.get("mode", "constant"), call.get("mode"))
    value = call.get("value") or 0
    pattern: tuple[Any, ...] = ()
    given = [int(p) for p in call["pad"]]
    if (mode == "zeros" and value == 0) or (mode != "zeros" and min(given, default=0) >= 0):
        sides = tuple(zip(given[0::2], given[1::2], strict=True))[::-1]
        pattern = (Padded(call.x, sides, str(mode)),)
    changes = {"value": 0.0} if "value" in call.given else {}
    scaled = padded(call, call.x, **changes) if mode == "zeros" and min(given, default=0) >= 0 else ()
    return _selected(call, *pattern, *scaled, **changes)


@rule("index", "index_select", "gather", "expand", "repeat", "tile", "unfold", affine=True)
def select(call: LipschitzCall) -> Value:
    """Entries by constant indices: sqrt K, 1, K where an entry is read at most K times."""
    return _selected(call)


@rule("im2col", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "repeat_interleave",
      "tril", "triu", "diagonal", "slice_copy", affine=True)  # fmt: skip
def copy(call: LipschitzCall) -> Value:
    """Windows and nearest neighbours: copies of entries."""
    return _selected(call)


@rule("masked_fill", affine=True)
def masked_fill(call: LipschitzCall) -> Value:
    """Entries behind a constant mask become a constant."""
    call.constant("mask")
    call.constant("value")
    return _selected(call, value=torch.tensor(0.0) if isinstance(call["value"], Tensor) else 0.0)


def _selected(call: LipschitzCall, *patterns: Any, **changes: Any) -> Value:
    """Runs the op on the numbers 1, 2, ... and counts how often each of them comes out."""
    x = call.x
    numbers = torch.arange(1, x.size + 1, dtype=torch.float64).reshape(x.shape)
    found = cast("Tensor", call.run(lambda _: numbers, **changes)).reshape(-1).long()
    found = found[found > 0]
    times = int(torch.bincount(found).max()) if found.numel() else 0
    return call.linear(x, copied(times), *patterns, roots=float(times))


def _sliced(
    call: LipschitzCall,
    x: Value,
    axis: int,
    start: int,
    stop: int,
    shape: tuple[int, ...] | None = None,
    name: str | None = None,
) -> Value:
    """A slice of ``x``, itself the tensor that the slice refers to."""
    return call.domain.value(
        call,
        [(x, ONE)],
        x.bounds,
        tuple(f for f in _kept(x)),
        links=0,
        part=Part(x.node, axis, start, max(start, stop), ONE),
        shape=shape,
        name=name,
    )


def _kept(x: Value) -> list[Any]:
    """Squares of a slice are a slice of squares."""
    from robcert.bounds.lipschitz.patterns import Squares

    return [f for f in x.patterns if isinstance(f, Squares)]
