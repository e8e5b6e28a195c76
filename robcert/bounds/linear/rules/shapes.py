"""Ops that move, drop, copy or average entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from robcert.bounds.linear.affine import Averaged, Diagonal, Moved, Sum
from robcert.bounds.linear.joined import Joined
from robcert.bounds.linear.rules import LinearCall, Ref, relaxation
from robcert.bounds.linear.step import Step
from robcert.bounds.lipschitz.pooling import adaptive_average, averages
from robcert.graph.call import WIDE

_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "reshape_as",
             "view_as", "numpy_T")  # fmt: skip
_SAME = ("clone", "contiguous", "alias", "detach", "lift_fresh_copy", "_to_copy", "to", "type_as", "dropout",
         "feature_dropout", "alpha_dropout", "native_dropout")  # fmt: skip
_RUN = ("permute", "mT", "mH", "adjoint", "rot90", "transpose", "t", "movedim", "moveaxis", "flip", "roll",
        "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "swapaxes", "swapdims", "slice", "narrow", "select",
        "pad", "constant_pad_nd", "index", "index_select", "unfold", "im2col", "upsample_nearest1d",
        "upsample_nearest2d", "upsample_nearest3d", "repeat_interleave", "tril", "triu", "diagonal", "slice_copy",
        "masked_fill")  # fmt: skip
_AVERAGES = ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "mean", "sum")


@relaxation(*_SAME)
def same(call: LinearCall) -> Any:
    """Nothing, in eval mode, and in a type that rounds nothing away."""
    if call.get("train", False) is not False:
        call.refuse("it is random in training mode")
    call.ignore("p", "dtype", "other")  # of dropping, which it does not do; the type of the result says the others
    if call.results[0].dtype not in WIDE:
        call.refuse(f"it rounds to {call.results[0].dtype}")
    step = Diagonal(call.node.name, call.layer, (call.first.name,), call.shape, *_numbers(1.0, 0.0), 0.0)
    return [step, None] if call.several else step


@relaxation(*_RESHAPES)
def reshape(call: LinearCall) -> Step:
    """The same entries in another shape."""
    shape, plain = call.shape, call.first.at.plain and call.plain
    call.ignore("size", "shape", "sizes", "dim", "start_dim", "end_dim", "other")  # the shape of the result says it
    return moved(call, lambda x: x.reshape(len(x), *shape), x=call.first) if plain else run(call)


@relaxation("expand", "expand_as")
def expand(call: LinearCall) -> Step:
    """Copies of entries."""
    x, shape = call.first, call.shape
    call.ignore("size", "other")  # the shape of the result says it
    lead = (1,) * (len(shape) - len(x.shape))
    return moved(call, lambda t: t.reshape(len(t), *lead, *x.shape).expand(len(t), *shape), x=x)


@relaxation("repeat", "tile")
def repeat(call: LinearCall) -> Step:
    """Copies of entries."""
    times = [int(t) for t in call.get("repeats", call.get("dims"))]
    return moved(call, lambda t: t.repeat(1, *times[1:]))


@relaxation(*_RUN)
def run(call: LinearCall) -> Step:
    """Whatever the op does to entries, it does for any number of images."""
    return moved(call, lambda x: cast("Tensor", call.apply_to(x)))


@relaxation("split", "split_with_sizes", "chunk", "unbind", "tensor_split")
def split(call: LinearCall) -> list[Step]:
    """Slices."""

    def piece(index: int) -> Callable[[Tensor], Tensor]:
        return lambda x: cast("list[Tensor]", call.apply_to(x))[index]

    return [moved(call, piece(k), shape=shape, name=f"[{k}]") for k, shape in enumerate(call.shapes)]


@relaxation(*_AVERAGES)
def averaged(call: LinearCall) -> Step:
    """A matrix without negative entries, applied by the op itself."""
    return moved(call, lambda x: cast("Tensor", call.apply_to(x)), through=False)


@relaxation("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(call: LinearCall) -> Step:
    """By the op itself; a negative divisor would turn the interval around."""
    if (call.get("divisor_override") or 1) < 0:
        call.refuse("its divisor is negative")
    return moved(call, averages(call, call.x.shape).apply, through=False)


@relaxation("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d")
def adaptive_average_pool(call: LinearCall) -> Step:
    """A product of one matrix an axis."""
    call.ignore("output_size")  # the shape of the result says it
    axes = int(call.op[-2])
    return moved(call, adaptive_average(call.x.shape, call.shape[-axes:]).apply, through=False)


@relaxation("cat", "concat", "concatenate", "stack")
def concatenate(call: LinearCall) -> Step:
    """One after the other; constants in between stay constants."""
    given, shape = cast("list[Any]", call["tensors"]), call.shape
    new = call.op == "stack"
    axis = int(call["dim"]) % (len(shape) + 1) - 1
    if axis < 0:
        call.refuse("it joins along the axis of the images")
    parts: list[Tensor | None] = []
    sizes: list[int] = []
    for part in given:
        part_shape = part.shape if isinstance(part, Ref) else tuple(part.shape[1:])
        sizes.append(1 if new else part_shape[axis])
        parts.append(None if isinstance(part, Ref) else part[:1].double())
    return Joined(*call.head, axis, tuple(parts), tuple(sizes), new)


@relaxation("where")
def where(call: LinearCall) -> Step:
    """A fixed choice: each side times a mask of zeros and ones, and their sum."""
    shape = call.shape
    condition = call.for_image(call.constant("condition").double(), len(shape) + 1)
    steps: list[Step] = []
    constant = torch.zeros(shape, dtype=torch.float64)
    for name, mask in (("self", condition), ("other", 1 - condition)):
        side = call[name]
        full = mask.expand(shape)
        if isinstance(side, Ref):
            if side.shape != shape:
                call.refuse("it copies its input")
            steps.append(Diagonal(f"{call.node.name}/{name}", call.layer, (side.name,), shape, full, constant * 0, 0.0))
        else:
            value = call.for_image(torch.as_tensor(side, dtype=torch.float64), len(shape) + 1)
            constant = constant + torch.where(full > 0, value.expand(shape), 0.0)
    size = float(constant.abs().amax()) if constant.numel() else 0.0
    if len(steps) == 1:
        only = cast("Diagonal", steps[0])
        return Diagonal(call.node.name, call.layer, only.sources, shape, only.scale, constant, size)
    names = tuple(step.node for step in steps)
    total = Sum(call.node.name, call.layer, names, shape, (1.0, 1.0), (shape, shape))
    return cast("Step", (*steps, total))


def moved(
    call: LinearCall,
    function: Callable[[Tensor], Tensor],
    *,
    x: Ref | None = None,
    shape: tuple[int, ...] | None = None,
    name: str = "",
    through: bool = True,
) -> Step:
    """A step from what the op does to any number of images, checked on three of them."""
    x = call.x if x is None else x
    shape = call.shape if shape is None else shape
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, *x.shape, generator=generator, dtype=torch.float64)
    try:
        all_of_them, one = function(images), function(images[1:2])
        alone = tuple(all_of_them.shape) == (3, *shape) and torch.allclose(all_of_them[1:2], one, 1e-9, 1e-12)
    except (RuntimeError, IndexError):
        alone = False
    if not alone:
        call.refuse("it does not treat images one by one along the first axis")
    constant = function(torch.zeros(1, *x.shape, dtype=torch.float64))
    ones = function(torch.ones(1, *x.shape, dtype=torch.float64)) - constant
    gain = float(ones.amax()) if ones.numel() else 0.0
    injective = False
    if through:
        places = torch.arange(1, images[0].numel() + 1, dtype=torch.float64).reshape(1, *x.shape)
        read = (function(places) - constant).flatten()
        read = read[read > 0].long()
        injective = bool((torch.bincount(read) <= 1).all()) if read.numel() else True
    result = f"{call.node.name}{name}"
    kind = Moved if through else Averaged
    return kind(result, call.layer, (x.name,), shape, function, x.shape, injective, gain, constant)


def _numbers(scale: float, shift: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(scale, dtype=torch.float64), torch.tensor(shift, dtype=torch.float64)
