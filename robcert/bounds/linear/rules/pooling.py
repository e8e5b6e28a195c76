"""The largest of several entries, and other order statistics."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from robcert.bounds.linear.activations import Activation
from robcert.bounds.linear.joined import Joined
from robcert.bounds.linear.order_statistics import Grid, OrderStatistic
from robcert.bounds.linear.rules import LinearCall, Ref, relaxation
from robcert.bounds.linear.rules.activations import clamped
from robcert.bounds.linear.step import Step
from robcert.graph.call import per_axis


@relaxation("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
            "max_pool3d_with_indices")  # fmt: skip
def max_pool(call: LinearCall) -> Any:
    """Windows may overlap, have holes, and hang over the edge."""
    x, axes = call.x, int(call.op[len("max_pool")])
    call.ignore("ceil_mode")  # the shape of the result says it
    kernel = per_axis(call["kernel_size"], axes)
    stride, padding = per_axis(call["stride"] or kernel, axes), per_axis(call["padding"], axes)
    dilation = per_axis(call["dilation"], axes)
    starts = [[o * s - p for o in range(m)] for m, s, p in zip(call.shape[-axes:], stride, padding, strict=True)]
    taps = [[k * d for k in range(size)] for size, d in zip(kernel, dilation, strict=True)]
    grid = None
    if axes == 2 and len(x.shape) == 3:
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        sizes = (cast("tuple[int, int]", t) for t in (reach, stride, padding))
        grid = Grid(x.shape, *sizes)
    return _first(call, _pooled(call, x, starts, taps, grid))


@relaxation("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(call: LinearCall) -> Any:
    """Windows from floor(i n / m) to ceil((i + 1) n / m)."""
    x, axes = call.x, int(call.op[len("adaptive_max_pool")])
    call.ignore("output_size")  # the shape of the result says it
    sizes = list(zip(x.shape[-axes:], call.shape[-axes:], strict=True))
    starts = [[i * n // m for i in range(m)] for n, m in sizes]
    widest = [max(-(-(i + 1) * n // m) - i * n // m for i in range(m)) for n, m in sizes]
    ends = [[-(-(i + 1) * n // m) for i in range(m)] for n, m in sizes]
    return _first(call, _pooled(call, x, starts, [list(range(w)) for w in widest], None, ends))


@relaxation("amax", "amin")
def over_axes(call: LinearCall) -> Any:
    """The largest (smallest) entry over some axes."""
    given = call.get("dim")
    call.ignore("keepdim")  # the shape of the result says it
    axes = [int(given)] if isinstance(given, int) else [int(d) for d in given or range(len(call.x.shape) + 1)]
    return _along(call, axes, smallest=call.op in ("amin", "min"))


@relaxation("max", "min", "maximum", "minimum")
def extreme(call: LinearCall) -> Any:
    """Of two values, of a value and a constant, or over an axis."""
    other = call.get("other")
    smallest = call.op in ("min", "minimum")
    if other is None:
        call.ignore("keepdim")  # the shape of the result says it
        if call.get("dim") is None:
            call.refuse("it takes the largest entry over all images")
        return _first(call, _along(call, [int(call["dim"])], smallest))
    if not (isinstance(call["self"], Ref) and isinstance(other, Ref)):
        constant = other if isinstance(call["self"], Ref) else call["self"]
        bound = torch.as_tensor(constant, dtype=torch.float64)
        if bound.numel() != 1:
            call.refuse("one side is a constant of several entries")
        low, high = (-math.inf, float(bound)) if smallest else (float(bound), math.inf)
        return Activation(*call.head, clamped(low, high))
    one, two = call.operands if len(call.operands) == 2 else (call["self"], other)
    shape = call.shape
    if one.shape != shape or two.shape != shape:
        call.refuse("it copies its input")
    name, names = f"{call.node.name}/both", (one.name, two.name)
    both = Joined(name, call.layer, names, (2, *shape), 0, (None, None), (1, 1), True)
    index = torch.arange(2 * math.prod(shape)).view(2, -1).T.contiguous()
    order = OrderStatistic(call.node.name, call.layer, (both.node,), shape, index, _rank(index, smallest), both.shape)
    return both, order


@relaxation("sort", "msort", "topk")
def sort(call: LinearCall) -> Any:
    """All order statistics along an axis: GroupSort, MaxMin."""
    x = call.x
    axis = int(call.get("dim", 0) if call.op != "msort" else 0) % (len(x.shape) + 1) - 1
    if axis < 0:
        call.refuse("it sorts images")
    if call.op == "topk" and not call["sorted"]:
        call.refuse("the order of its entries is not defined")
    call.ignore("stable", "k")  # of equal entries; the shape of the result says how many
    descending = bool(call["descending"]) if call.op == "sort" else call.op == "topk" and bool(call["largest"])
    shape, size = call.shape, x.shape[axis]
    places = torch.arange(math.prod(x.shape)).view(x.shape).movedim(axis, -1)
    index = places.unsqueeze(-2).expand(*places.shape[:-1], shape[axis], size)
    rank = torch.arange(shape[axis]) if descending else size - 1 - torch.arange(shape[axis])
    ranks = rank.expand(index.shape[:-1])
    index = index.movedim(-2, axis).reshape(-1, size)
    step = OrderStatistic(*call.head, index, ranks.movedim(-1, axis).reshape(-1).contiguous(), x.shape)
    return step if call.op == "msort" else [step, None]


def _pooled(
    call: LinearCall,
    x: Ref,
    starts: list[list[int]],
    taps: list[list[int]],
    grid: Grid | None,
    ends: list[list[int]] | None = None,
) -> Step:
    """Windows as products of one window an axis, for every channel."""
    axes = len(starts)
    sizes, lead = x.shape[-axes:], x.shape[:-axes]
    index = torch.zeros(1, 1, dtype=torch.int64)
    for axis, (start, tap, size) in enumerate(zip(starts, taps, sizes, strict=True)):
        at = torch.tensor(start).unsqueeze(1) + torch.tensor(tap)
        stop = torch.tensor(ends[axis]).unsqueeze(1) if ends is not None else size
        inside = (at >= 0) & (at < size) & (at < stop)
        here = torch.where(inside, at, -1)
        both = index[:, None, :, None] * size + here[None, :, None, :]
        missing = (index[:, None, :, None] < 0) | (here[None, :, None, :] < 0)
        index = torch.where(missing, -1, both).reshape(len(index) * len(start), -1)
    channels = torch.arange(math.prod(lead)).view(-1, 1, 1) * math.prod(sizes)
    index = torch.where(index < 0, -1, index + channels).reshape(-1, index.shape[1])
    return OrderStatistic(*call.head, index, _rank(index, smallest=False), x.shape, grid)


def _along(call: LinearCall, dims: list[int], smallest: bool) -> Step:
    x = call.x
    axes = [d % (len(x.shape) + 1) - 1 for d in dims]
    if min(axes) < 0:
        call.refuse("it compares images")
    places = torch.arange(math.prod(x.shape)).view(x.shape)
    kept = [a for a in range(len(x.shape)) if a not in axes]
    index = places.permute(*kept, *axes).reshape(math.prod(x.shape[a] for a in kept), -1)
    return OrderStatistic(*call.head, index, _rank(index, smallest), x.shape)


def _rank(index: Tensor, smallest: bool) -> Tensor:
    return (index >= 0).sum(1) - 1 if smallest else torch.zeros(len(index), dtype=torch.int64)


def _first(call: LinearCall, step: Step) -> Any:
    return [step, None] if call.several else step
