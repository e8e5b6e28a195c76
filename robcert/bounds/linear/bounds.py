"""Intervals of every value of a network over a region: forwards, and refined by linear bounds where that matters.

Sources: Gowal et al. 2018 (IBP); Zhang et al. 2018 (CROWN); Xu et al. 2020 for general graphs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from robcert.bounds.linear.activations import PiecewiseLinear
from robcert.bounds.linear.affine import Diagonal, Moved
from robcert.bounds.linear.backward import Relaxation, minima, pull_back
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.convolution import Convolution
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.maximum import Maximum
from robcert.bounds.linear.order_statistics import OrderStatistic
from robcert.bounds.linear.program import Program
from robcert.bounds.linear.step import Interval, Step

Mode = Literal["ibp", "crown-ibp", "crown"]

_CHUNK = 1 << 20
"""Coefficients of one value that are refined at once (8 MiB): what fits in a cache is done faster."""
_TILE = 2
"""Entries of a picture are refined in squares of this side: they share most of what they see."""


def relax(program: Program, region: Region, mode: Mode, *, fixed: dict[str, Interval] | None = None) -> Relaxation:
    """Return intervals of all values, in the order of execution.

    They hold for the values that the float32 network computes at the float32 inputs of the region, and for those of the
    network in real arithmetic: its rounding errors are 0, which is one of the choices that the intervals allow for.

    Args:
        program: the network.
        region: the inputs.
        mode: "crown" refines the targets of the program by linear bounds, the others do not.
        fixed: intervals that are known to hold for some values, by name.
    """
    found = Relaxation(program, region)
    found.intervals[program.images] = Interval(region.lower, region.upper, torch.ones(1, dtype=torch.float64), region.x)
    for step in program.steps:
        given = [found.intervals[s] for s in step.sources]
        interval = found.executed(step, given, step.interval(given, region))
        if fixed is not None and step.node in fixed:
            interval = interval.meet(fixed[step.node])
        if mode == "crown" and step.node in program.targets and step.node != program.logits:
            interval = _refined(found, step, interval)
        found.intervals[step.node] = interval
    return found


def _refined(found: Relaxation, step: Step, interval: Interval) -> Interval:
    """The interval of a target, met with linear bounds of those entries for which they matter."""
    wanted = _wanted(found, step.node, interval)
    n, most = len(wanted), int(wanted.flatten(1).sum(1).max())
    lower, upper = interval.lower.clone(), interval.upper.clone()
    better = worse = 0
    if not _picture(step) and 2 * n * most * found.program.widest <= _CHUNK:
        parts = [_together(found, step, wanted, most)] if most else []
    else:
        parts = (
            (torch.full_like(at, k), at, low, high)
            for k in wanted.flatten(1).any(1).nonzero().flatten().tolist()
            for at, low, high in _one_by_one(found.image(k), step, wanted[k])
        )
    for k, at, low, high in parts:
        flat_low, flat_high = lower.flatten(1), upper.flatten(1)
        worse += int((low < flat_low[k, at]).sum() + (high > flat_high[k, at]).sum())
        better += 2 * len(at)
        flat_low[k, at] = torch.maximum(flat_low[k, at], low)
        flat_high[k, at] = torch.minimum(flat_high[k, at], high)
    found.tightened = (found.tightened[0] + better, found.tightened[1] + worse)
    return Interval(lower, torch.maximum(lower, upper), interval.spread, interval.here)


def _picture(step: Step) -> bool:
    return len(step.shape) == 3 and step.windows and step.shape[1] * step.shape[2] > 1


def _together(found: Relaxation, step: Step, wanted: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Linear bounds of the wanted entries of all images: images, positions, lower and upper bounds, each (entries,)."""
    flat = wanted.flatten(1)
    order = flat.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :most]
    units = torch.zeros(len(flat), most, flat.shape[1], dtype=torch.float64).scatter_(2, order.unsqueeze(2), 1.0)
    low, high = _both(found, step.node, Rows(units.unflatten(2, step.shape)))
    image, row = flat.gather(1, order).nonzero().unbind(1)  # images with fewer wanted entries have other ones behind
    return image, order[image, row], low[image, row], high[image, row]


def _wanted(found: Relaxation, node: str, interval: Interval) -> Tensor:
    """(n, *shape) bool: the entries whose interval decides how tight a nonlinear step is."""
    values = {node: interval}
    wanted = torch.zeros_like(interval.lower, dtype=torch.bool)
    for step in found.program.steps:
        name = next((s for s in step.sources if s in values), None)
        if name is None:
            continue
        value = values[name]
        if isinstance(step, PiecewiseLinear):
            wanted |= _behind(found, step, value).view_as(wanted)
        elif isinstance(step, Maximum):
            entries = name == step.sources[0]
            wanted |= step.contenders(value) if entries else (value.lower < 0) & (value.upper > 0)
        elif isinstance(step, Diagonal) or (isinstance(step, Moved) and _in_order(step)):
            values[step.node] = step.interval([value], found.region)
        elif step.through:
            return torch.ones_like(wanted)
    return wanted


def _behind(found: Relaxation, step: PiecewiseLinear, value: Interval) -> Tensor:
    """The same in front of ReLU: where the sign is not certain, and where pooling behind it has a choice."""
    crossing = (value.lower < 0) & (value.upper > 0)
    readers = [s for s in found.program.steps if step.node in s.sources]
    if all(s.affine and (not s.through or _linear(found.program, s.node)) for s in readers):
        return crossing
    if bool(step.below.any()):
        return torch.ones_like(crossing)
    alone = readers[0]
    if len(readers) == 1 and isinstance(alone, OrderStatistic) and not bool(alone.rank.any()):
        out = step.interval([value], found.region)
        may, rival = alone.contenders(out.lower, out.upper)
        return may & (rival | crossing)
    return value.upper > 0


def _linear(program: Program, node: str) -> bool:
    """Return whether all that reads a value sums it up."""
    readers = [s for s in program.steps if node in s.sources]
    return all(s.affine and (not s.through or _linear(program, s.node)) for s in readers)


def _in_order(step: Moved) -> bool:
    """Return whether a step keeps every entry in its place, like flatten."""
    count = math.prod(step.in_shape)
    if not step.injective or count != math.prod(step.shape) or bool(step.constant.any()):
        return False
    numbers = torch.arange(count, dtype=torch.float64)
    return torch.equal(step.function(numbers.view(1, *step.in_shape)).flatten(), numbers)


def _one_by_one(one: Relaxation, step: Step, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Linear bounds of the wanted entries (*shape) of one image: positions, lower and upper bounds, each (entries,)."""
    if _picture(step):
        yield from _by_place(one, step, wanted)
        return
    positions = wanted.flatten().nonzero().flatten()
    for at in positions.split(max(1, _CHUNK // (2 * one.program.widest))):
        units = torch.zeros(1, len(at), wanted.numel(), dtype=torch.float64)
        units[0, torch.arange(len(at)), at] = 1.0
        low, high = _both(one, step.node, Rows(units.unflatten(2, step.shape)))
        yield at, low[0], high[0]


def _by_place(one: Relaxation, step: Step, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The same for pictures: entries near one another share a small window."""
    channels, height, width = step.shape
    for y in range(0, height, _TILE):
        for x in range(0, width, _TILE):
            window = (y, min(y + _TILE, height), x, min(x + _TILE, width))
            here = wanted[:, y : window[1], x : window[3]]
            used = here.flatten().nonzero().flatten()
            if not len(used):
                continue
            tall, broad = here.shape[1:]
            channel, rest = used // (tall * broad), used % (tall * broad)
            at = channel * height * width + (y + rest // broad) * width + x + rest % broad
            if isinstance(step, Convolution) and step.groups == 1:
                # A convolution's result is the kernel itself, the bias, and what its execution adds: two roundings.
                low, high = _both(one, step.sources[0], step.unit_rows(window, used))
                off = one.off(step.node)
                own = off.flatten(1)[0, at] if off is not None else torch.zeros_like(step.bias[channel])
                low, high = low[0] + step.bias[channel] - own, high[0] + step.bias[channel] + own
                slack = 8 * 2.0**-53
                yield at, low - slack * low.abs(), high + slack * high.abs()
            else:
                units = torch.nn.functional.one_hot(used, here.numel()).double().view(1, -1, channels, tall, broad)
                low, high = _both(one, step.node, Rows(units, window))
                yield at, low[0], high[0]


def _both(found: Relaxation, node: str, rows: Rows) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of rows . value, (n, rows) each."""
    count = rows.a.shape[1]
    back = pull_back(found, node, Rows(torch.cat([rows.a, -rows.a], 1), rows.window), fused=True)
    bound = minima(found, back)[0]
    return bound[:, :count], -bound[:, count:]
