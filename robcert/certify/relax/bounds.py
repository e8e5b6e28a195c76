"""Bounds of linear functions of the logits over a region: intervals forwards, linear bounds backwards.

**Rounding.** Going back through a step, computed coefficients a' stand for a. Whatever was rounded, the lower bound
moves by at most gamma_k ||a||_1 M, where k counts the roundings of a sum in the step and M is the largest sum of
absolute values of the products that an entry of the step consists of (`Step.magnitude`): this is the term gamma |a|
|W| |x| of a product, summed. All these terms are subtracted at the end. The floating-point coefficients are taken as
they are from there on, so errors do not multiply.

Source: Zhang et al. 2018 (CROWN); Xu et al. 2020 for general graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from robcert.certify.relax.inputs import Region
from robcert.certify.relax.lines import Bent, pull_lines
from robcert.certify.relax.program import Program
from robcert.certify.relax.steps import Interval, Rows, Step
from robcert.math.rounding import gamma

Mode = Literal["ibp", "crown-ibp", "crown"]

ENTRIES = 1 << 22
"""Coefficients that are held at once for one value (32 MiB); more rows go in chunks."""


@dataclass
class Relaxation:
    """What is known about every value of a network over a region.

    Attributes:
        program: the network.
        region: the inputs.
        intervals: of every value, by name.
        relaxed: what steps need to pull coefficients back, by the name of their result.
        magnitudes: (n,), likewise.
        tightened: entries of targets whose interval linear bounds improved, and entries for which they alone would have
            been looser than intervals.
    """

    program: Program
    region: Region
    intervals: dict[str, Interval] = field(default_factory=dict[str, Interval])
    relaxed: dict[str, Any] = field(default_factory=dict[str, Any])
    magnitudes: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    tightened: tuple[int, int] = (0, 0)


def relax(program: Program, region: Region, mode: Mode, *, fixed: dict[str, Interval] | None = None) -> Relaxation:
    """Intervals of all values, in the order of execution.

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
        interval = step.interval(given, region)
        if fixed is not None and step.node in fixed:
            interval = interval.meet(fixed[step.node])
        prepare(found, step)
        if mode == "crown" and step.node in program.targets and step.node != program.logits:
            interval = _refined(found, step, interval)
        found.intervals[step.node] = interval
    return found


def prepare(found: Relaxation, step: Step) -> None:
    """The relaxation of one step, from the intervals of what it reads."""
    given = [found.intervals[s] for s in step.sources]
    found.relaxed[step.node] = step.relax(given)
    found.magnitudes[step.node] = step.magnitude(given, found.relaxed[step.node])


@dataclass
class Back:
    """Where going back ended: rows . value >= sum of rows . value over ``rows``, plus constant, less error.

    Attributes:
        rows: coefficients of the images (and of nonlinear values, where the way ended at them), by name.
        constant: (n, rows).
        error: (n, rows), what rounding can be.
    """

    rows: dict[str, Tensor]
    constant: Tensor
    error: Tensor


def pull_back(
    found: Relaxation,
    node: str,
    rows: Rows,
    *,
    to_inputs: bool = True,
    slopes: dict[str, Tensor] | None = None,
    extra: dict[str, Tensor] | None = None,
    watch: Callable[[str, Tensor], None] | None = None,
) -> Back:
    """Linear lower bounds of linear functions of a value.

    Args:
        found: the intervals of everything before.
        node: the name of the value.
        rows: of the value, (n, rows, *shape).
        to_inputs: go back to the images; otherwise stop at nonlinear steps.
        slopes: (n, 1 or rows, *shape) between the slope below 0 and 1, by the name of a `Bent` step: other slopes of
            lower lines.
        extra: coefficients (n, rows, *shape) that are added on the way, by the name of a value.
        watch: is told the coefficients of every nonlinear step.
    """
    program = found.program
    pending: dict[str, Rows] = {node: rows}
    n, count = rows.a.shape[:2]
    constant = torch.zeros(n, count, dtype=torch.float64)
    mass, error = torch.zeros_like(constant), torch.zeros_like(constant)
    steps = program.until(node)
    for step in reversed(steps):
        mine = pending.pop(step.node, None)
        if extra is not None and step.node in extra:
            more = Rows(extra[step.node])
            mine = more if mine is None else mine.plus(more, step.shape)
        if mine is None:
            continue
        if not step.affine and not to_inputs:
            pending[step.node] = mine
            continue
        if not step.windows:
            mine = mine.whole(step.shape)
        relaxed = found.relaxed[step.node]
        with torch.no_grad():
            size = mine.a.detach().flatten(2).abs().sum(2) * found.magnitudes[step.node].unsqueeze(1)
            mass += size
            error += gamma(2 * step.roundings + 16) * size
        if watch is not None and not step.affine:
            watch(step.node, mine.whole(step.shape).a)
        slope = slopes.get(step.node) if slopes is not None and isinstance(step, Bent) else None
        pulled = pull_lines(mine, relaxed, _cut(mine, slope)) if slope is not None else step.pull(mine, relaxed)
        constant = constant + pulled.constant
        for source, part in zip(step.sources, pulled.rows, strict=True):
            held = pending.get(source)
            pending[source] = part if held is None else held.plus(part, program.shapes[source])
    ends = {name: part.whole(program.shapes[name]).a for name, part in pending.items()}
    error = error + gamma(4 * len(steps) + 64) * (mass + constant.detach().abs()) + 2.0**-900
    return Back(ends, constant, error)


def lower_bound(
    found: Relaxation,
    node: str,
    rows: Rows,
    *,
    to_inputs: bool = True,
    slopes: dict[str, Tensor] | None = None,
    extra: dict[str, Tensor] | None = None,
    watch: Callable[[str, Tensor], None] | None = None,
) -> Tensor:
    """A lower bound of rows . value over the region; the arguments are those of `pull_back`.

    Returns:
        (n, rows) float64; minus infinity where nothing is known.
    """
    back = pull_back(found, node, rows, to_inputs=to_inputs, slopes=slopes, extra=extra, watch=watch)
    return concretised(found, back)


def concretised(found: Relaxation, back: Back) -> Tensor:
    """The smallest value of the linear functions that `pull_back` ended with, (n, rows)."""
    total = back.constant - back.error
    for name, a in back.rows.items():
        image = name == found.program.images
        total = total + (found.region.minimum(a) if image else _minimum(found.intervals[name], a))
    # The sums just made: two or three terms, each within a rounding.
    total = total - 16 * 2.0**-53 * (total.detach().abs() + back.constant.detach().abs())
    return torch.where(torch.isnan(total), -torch.inf, total)


def _cut(rows: Rows, slope: Tensor) -> Tensor:
    if rows.window is None:
        return slope
    y0, y1, x0, x1 = rows.window
    return slope[..., y0:y1, x0:x1]


def _minimum(interval: Interval, a: Tensor) -> Tensor:
    """Min a . v for v in an interval, rounding included."""
    flat, low, high = a.flatten(2), interval.lower.flatten(1), interval.upper.flatten(1)
    half = (high - low) / 2
    size = flat.abs()
    found = torch.bmm(flat, (low + half).unsqueeze(2)) - torch.bmm(size, half.unsqueeze(2))
    error = gamma(4 * flat.shape[2] + 64) * 4 * interval.largest.unsqueeze(1) * size.sum(2)
    return found.squeeze(2) - error


def _refined(found: Relaxation, step: Step, interval: Interval) -> Interval:
    """The interval of a target, met with linear bounds of those entries for which they matter."""
    wanted = _wanted(found.program, step.node, interval)
    if not bool(wanted.any()):
        return interval
    lower, upper = interval.lower.clone(), interval.upper.clone()
    better = worse = 0
    for at, rows in _unit_rows(step, wanted, found.program):
        both = Rows(torch.cat([rows.a, -rows.a], 1), rows.window)
        bound = lower_bound(found, step.node, both)
        count = rows.a.shape[1]
        flat_low, flat_high = lower.flatten(1), upper.flatten(1)
        low, high = bound[:, :count], -bound[:, count:]
        mask = wanted.flatten(1).gather(1, at)
        worse += int(((low < flat_low.gather(1, at)) & mask).sum() + ((high > flat_high.gather(1, at)) & mask).sum())
        better += 2 * int(mask.sum())
        flat_low.scatter_(1, at, torch.maximum(flat_low.gather(1, at), low))
        flat_high.scatter_(1, at, torch.minimum(flat_high.gather(1, at), high))
    found.tightened = (found.tightened[0] + better, found.tightened[1] + worse)
    return Interval(lower, torch.maximum(lower, upper), interval.spread, interval.here)


def _wanted(program: Program, node: str, interval: Interval) -> Tensor:
    """(n, *shape) bool. In front of ReLU, an entry that keeps its sign gains nothing."""
    names, relu_only = {node}, True
    for step in program.steps:
        if not any(s in names for s in step.sources):
            continue
        if isinstance(step, Bent):
            continue
        same = step.affine and step.through and len(step.sources) == 1
        if same and torch.Size(step.shape).numel() == interval.lower[0].numel() and _plain(step):
            names.add(step.node)
        else:
            relu_only = False
    if not relu_only:
        return torch.ones_like(interval.lower, dtype=torch.bool)
    return (interval.lower < 0) & (interval.upper > 0)


def _plain(step: Step) -> bool:
    """A step that does not change the sign of entries."""
    scale = getattr(step, "scale", None)
    shift = getattr(step, "shift", None)
    if isinstance(scale, Tensor) and isinstance(shift, Tensor):
        return not bool(shift.any())
    return True


def _unit_rows(step: Step, wanted: Tensor, program: Program):
    """Chunks of unit rows for the wanted entries: (positions (n, rows), rows)."""
    n = len(wanted)
    if len(step.shape) == 3 and step.windows and step.shape[1] * step.shape[2] > 1:
        yield from _by_place(step, wanted)
        return
    flat = wanted.flatten(1)
    most = int(flat.sum(1).max())
    order = flat.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :most]
    chunk = max(1, ENTRIES // (2 * n * program.widest))
    for start in range(0, most, chunk):
        at = order[:, start : start + chunk]
        a = torch.zeros(n, at.shape[1], flat.shape[1], dtype=torch.float64).scatter_(2, at.unsqueeze(2), 1.0)
        yield at, Rows(a.unflatten(2, step.shape))


_TILE = 2


def _by_place(step: Step, wanted: Tensor):
    """The same for pictures: entries near one another share a small window."""
    channels, height, width = step.shape
    n = len(wanted)
    for y in range(0, height, _TILE):
        for x in range(0, width, _TILE):
            y1, x1 = min(y + _TILE, height), min(x + _TILE, width)
            here = wanted[:, :, y:y1, x:x1]
            used = here.any(0).flatten().nonzero().flatten()
            if not len(used):
                continue
            shape = (channels, y1 - y, x1 - x)
            a = torch.nn.functional.one_hot(used, torch.Size(shape).numel()).double()
            area = shape[1] * shape[2]
            channel, rest = used // area, used % area
            at = channel * height * width + (y + rest // shape[2]) * width + x + rest % shape[2]
            rows = a.unflatten(1, shape).expand(n, -1, -1, -1, -1)
            yield at.expand(n, -1), Rows(rows, (y, y1, x, x1))
