"""The largest of several entries, and other order statistics."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from robcert.bounds.linear.activations import Activation
from robcert.bounds.linear.joined import Joined
from robcert.bounds.linear.order_statistics import Grid, OrderStatistic
from robcert.bounds.linear.rules import Ref, Site, relaxation
from robcert.bounds.linear.rules.activations import clamped
from robcert.bounds.linear.step import Step
from robcert.graph.call import per_axis


@relaxation("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
            "max_pool3d_with_indices")  # fmt: skip
def max_pool(site: Site) -> Any:
    """Windows may overlap, have holes, and hang over the edge."""
    x, axes = site.x, int(site.op[len("max_pool")])
    site.ignore("ceil_mode")  # the shape of the result says it
    kernel = per_axis(site["kernel_size"], axes)
    stride, padding = per_axis(site["stride"] or kernel, axes), per_axis(site["padding"], axes)
    dilation = per_axis(site["dilation"], axes)
    starts = [[o * s - p for o in range(m)] for m, s, p in zip(site.shape[-axes:], stride, padding, strict=True)]
    taps = [[k * d for k in range(size)] for size, d in zip(kernel, dilation, strict=True)]
    grid = None
    if axes == 2 and len(x.shape) == 3:
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        sizes = (cast("tuple[int, int]", t) for t in (reach, stride, padding))
        grid = Grid(x.shape, *sizes)
    return _first(site, _pooled(site, x, starts, taps, grid))


@relaxation("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(site: Site) -> Any:
    """Windows from floor(i n / m) to ceil((i + 1) n / m)."""
    x, axes = site.x, int(site.op[len("adaptive_max_pool")])
    site.ignore("output_size")  # the shape of the result says it
    sizes = list(zip(x.shape[-axes:], site.shape[-axes:], strict=True))
    starts = [[i * n // m for i in range(m)] for n, m in sizes]
    widest = [max(-(-(i + 1) * n // m) - i * n // m for i in range(m)) for n, m in sizes]
    ends = [[-(-(i + 1) * n // m) for i in range(m)] for n, m in sizes]
    return _first(site, _pooled(site, x, starts, [list(range(w)) for w in widest], None, ends))


@relaxation("amax", "amin")
def over_axes(site: Site) -> Any:
    """The largest (smallest) entry over some axes."""
    given = site.get("dim")
    site.ignore("keepdim")  # the shape of the result says it
    axes = [int(given)] if isinstance(given, int) else [int(d) for d in given or range(len(site.x.shape) + 1)]
    return _along(site, axes, smallest=site.op in ("amin", "min"))


@relaxation("max", "min", "maximum", "minimum")
def extreme(site: Site) -> Any:
    """Of two values, of a value and a constant, or over an axis."""
    other = site.get("other")
    smallest = site.op in ("min", "minimum")
    if other is None:
        site.ignore("keepdim")  # the shape of the result says it
        if site.get("dim") is None:
            site.refuse("it takes the largest entry over all images")
        return _first(site, _along(site, [int(site["dim"])], smallest))
    if not (isinstance(site["self"], Ref) and isinstance(other, Ref)):
        constant = other if isinstance(site["self"], Ref) else site["self"]
        bound = torch.as_tensor(constant, dtype=torch.float64)
        if bound.numel() != 1:
            site.refuse("one side is a constant of several entries")
        low, high = (-math.inf, float(bound)) if smallest else (float(bound), math.inf)
        return Activation(*site.head, clamped(low, high))
    one, two = site.operands if len(site.operands) == 2 else (site["self"], other)
    shape = site.shape
    if one.shape != shape or two.shape != shape:
        site.refuse("it copies its input")
    name, names = f"{site.node.name}/both", (one.name, two.name)
    both = Joined(name, site.layer, names, (2, *shape), 0, (None, None), (1, 1), True)
    index = torch.arange(2 * math.prod(shape)).view(2, -1).T.contiguous()
    order = OrderStatistic(site.node.name, site.layer, (both.node,), shape, index, _rank(index, smallest), both.shape)
    return both, order


@relaxation("sort", "msort", "topk")
def sort(site: Site) -> Any:
    """All order statistics along an axis: GroupSort, MaxMin."""
    x = site.x
    axis = int(site.get("dim", 0) if site.op != "msort" else 0) % (len(x.shape) + 1) - 1
    if axis < 0:
        site.refuse("it sorts images")
    if site.op == "topk" and not site["sorted"]:
        site.refuse("the order of its entries is not defined")
    site.ignore("stable", "k")  # of equal entries; the shape of the result says how many
    descending = bool(site["descending"]) if site.op == "sort" else site.op == "topk" and bool(site["largest"])
    shape, size = site.shape, x.shape[axis]
    places = torch.arange(math.prod(x.shape)).view(x.shape).movedim(axis, -1)
    index = places.unsqueeze(-2).expand(*places.shape[:-1], shape[axis], size)
    rank = torch.arange(shape[axis]) if descending else size - 1 - torch.arange(shape[axis])
    ranks = rank.expand(index.shape[:-1])
    index = index.movedim(-2, axis).reshape(-1, size)
    step = OrderStatistic(*site.head, index, ranks.movedim(-1, axis).reshape(-1).contiguous(), x.shape)
    return step if site.op == "msort" else [step, None]


def _pooled(
    site: Site,
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
    return OrderStatistic(*site.head, index, _rank(index, smallest=False), x.shape, grid)


def _along(site: Site, dims: list[int], smallest: bool) -> Step:
    x = site.x
    axes = [d % (len(x.shape) + 1) - 1 for d in dims]
    if min(axes) < 0:
        site.refuse("it compares images")
    places = torch.arange(math.prod(x.shape)).view(x.shape)
    kept = [a for a in range(len(x.shape)) if a not in axes]
    index = places.permute(*kept, *axes).reshape(math.prod(x.shape[a] for a in kept), -1)
    return OrderStatistic(*site.head, index, _rank(index, smallest), x.shape)


def _rank(index: Tensor, smallest: bool) -> Tensor:
    return (index >= 0).sum(1) - 1 if smallest else torch.zeros(len(index), dtype=torch.int64)


def _first(site: Site, step: Step) -> Any:
    return [step, None] if site.several else step
