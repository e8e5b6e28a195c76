"""Linear bounds of linear functions of a value, backwards from it to the images.

**Rounding.** Going back through a step, computed coefficients a' stand for a. Whatever was rounded, the lower bound
moves by at most gamma_k ||a||_1 M, where k counts the roundings of a sum in the step and M is the largest sum of
absolute values of the products that an entry of the step consists of (`Step.magnitude`): this is the term gamma |a|
|W| |x| of a product, summed. All these terms are subtracted at the end. The floating-point coefficients are taken as
they are from there on, so errors do not multiply.

**Rounding of the network.** A step is executed in float32 as h^ = g(h^_1, ..) + d with |d| <= v, entry by entry
(`robcert.bounds.rounding.entrywise`). With coefficients a of h^, the lower bound of the executed network loses |a| v:
one more term a step. With every d = 0 the same coefficients bound the network in real arithmetic.

Source: Zhang et al. 2018 (CROWN); Xu et al. 2020 for general graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.fused import FusedConvReLUPool, Patches
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.program import Program
from robcert.bounds.linear.step import Adjustable, Interval, Step
from robcert.bounds.rounding.rules import FLOAT32
from robcert.math.rounding import gamma

_LIMIT = 2.0**120
"""Beyond this size a float32 number may overflow on the way, and nothing is claimed about the executed network."""

ENTRIES = 1 << 22
"""Coefficients that are held at once for one value (32 MiB); more rows go in chunks."""


@dataclass
class Relaxation:
    """Intervals and relaxations of every value of a network over a region.

    Attributes:
        program: the network.
        region: the inputs.
        intervals: of every value, by name.
        tightened: entries of targets whose interval linear bounds improved, and entries for which they alone would have
            been looser than intervals.
        overflows: (n,) bool, whether some float32 number may overflow, or a step has no bound of its rounding: then
            bounds hold in real arithmetic alone.
    """

    program: Program
    region: Region
    intervals: dict[str, Interval] = field(default_factory=dict[str, Interval])
    tightened: tuple[int, int] = (0, 0)
    overflows: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.bool))
    _off: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    _relaxed: dict[str, tuple[Any, Tensor]] = field(default_factory=dict[str, tuple[Any, Tensor]])
    _patches: dict[str, Patches] = field(default_factory=dict[str, Patches])

    def lines(self, step: Step) -> Any:
        """Return the relaxation by which the step pulls coefficients back; worked out when it is first asked for."""
        return self._of(step)[0]

    def magnitude(self, step: Step) -> Tensor:
        """`Step.magnitude`, (n,)."""
        return self._of(step)[1]

    def patches(self, step: FusedConvReLUPool) -> Patches:
        """The same for a convolution with ReLU and pooling in one."""
        name = step.order.node
        if name not in self._patches:
            parts: tuple[Any, Any, Any] = (step.convolution, step.relu, step.order)
            first, second, third = (self.magnitude(part) for part in parts)
            relaxed = self.lines(parts[1]), self.lines(parts[2])
            offs = self.off(step.convolution.node), self.off(step.relu.node)
            self._patches[name] = step.compose(*relaxed, (first, second, third), offs)
        return self._patches[name]

    def image(self, k: int) -> Relaxation:
        """Return the intervals of one image alone."""
        n = len(self.region)
        intervals = {name: value.image(k) for name, value in self.intervals.items()}
        off = {name: one[k : k + 1] for name, one in self._off.items()}
        overflows = self.overflows.expand(n)[k : k + 1]
        return Relaxation(self.program, self.region.image(k), intervals, (0, 0), overflows, _off=off)

    def executed(self, step: Step, given: list[Interval], exact: Interval) -> Interval:
        """Return the interval of what float32 makes of a step.

        Args:
            step: the step.
            given: the intervals of what it reads.
            exact: that of its exact result for them.
        """
        rounding = self.program.roundings.get(step.node)
        if rounding is None:
            return exact
        off = rounding.bound(given, exact)
        n = len(exact.lower)
        most = off.reshape(len(off) if off.dim() > len(step.shape) else 1, -1).amax(1)
        over = ~(most <= _LIMIT * FLOAT32.u)
        if bool(over.any()):
            self.overflows = self.overflows | over
            off = torch.where(over.view(-1, *([1] * len(step.shape))), 0.0, off)
        self._off[step.node] = off.expand(n, *step.shape)
        found = exact.moved(off)
        if rounding.square or (rounding.positive and all(not bool((x.lower < 0).any()) for x in given)):
            found = replace(found, lower=found.lower.clamp_min(0))
        return found

    def off(self, node: str) -> Tensor | None:
        """Return how far the executed entries of a value may be from the exact result of its step; None if not at all.

        Returns:
            (n, *shape).
        """
        return self._off.get(node)

    def _of(self, step: Step) -> tuple[Any, Tensor]:
        if step.node not in self._relaxed:
            given = [self.intervals[s] for s in step.sources]
            with torch.no_grad():
                relaxed = step.relax(given)
                self._relaxed[step.node] = relaxed, step.magnitude(given, relaxed)
        return self._relaxed[step.node]


@dataclass
class Back:
    """The end of a way back: rows . value >= sum of rows . value over ``rows``, plus constant, less error.

    Attributes:
        rows: coefficients of the images (and of nonlinear values, where the way ended at them), by name of the value.
        constant: (n, rows).
        error: (n, rows), what the rounding of the bound itself can be.
        off: (n, rows), what the rounding of the executed network can take away.
    """

    rows: dict[str, Rows]
    constant: Tensor
    error: Tensor
    off: Tensor


def pull_back(
    found: Relaxation,
    node: str,
    rows: Rows,
    *,
    to_inputs: bool = True,
    fused: bool = False,
    parameters: dict[str, Tensor] | None = None,
    extra: dict[str, Tensor] | None = None,
    watch: Callable[[Step, Tensor], None] | None = None,
) -> Back:
    """Return linear lower bounds of linear functions of a value.

    Args:
        found: the intervals of everything before.
        node: the name of the value.
        rows: of the value, (n, rows, *shape).
        to_inputs: go back to the images; otherwise stop at nonlinear steps.
        fused: take convolution, ReLU and pooling in one (`robcert.bounds.linear.fused`), which pays for many
            rows; not together with what follows.
        parameters: (n, 1 or rows, *any), by the name of an `Adjustable` step: other parameters of its relaxation.
        extra: coefficients (n, rows, *shape) that are added on the way, by the name of a value.
        watch: is told the coefficients of every nonlinear step.
    """
    program = found.program
    pending: dict[str, Rows] = {node: rows}
    n, count = rows.a.shape[:2]
    constant = torch.zeros(n, count, dtype=torch.float64)
    mass, error, lost = torch.zeros_like(constant), torch.zeros_like(constant), torch.zeros_like(constant)
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
        whole = program.fused.get(step.node) if fused else None
        if whole is not None and whole.entries <= ENTRIES:
            patches = found.patches(whole)
            heavy, pulled, sources = patches.magnitude, whole.pull(mine, patches), whole.sources
            roundings, off = whole.roundings, whole.off(mine, patches)
        else:
            if not step.windows:
                mine = mine.whole(step.shape)
            heavy, roundings, sources = found.magnitude(step), step.roundings, step.sources
            own = found.off(step.node)
            off = Rows(mine.a.detach().abs(), mine.window).dot(own) if own is not None else None
            if watch is not None and not step.affine:
                watch(step, mine.whole(step.shape).a)
            relaxed, free = found.lines(step), None if parameters is None else parameters.get(step.node)
            if free is not None and isinstance(step, Adjustable):
                pulled = step.pull_at(mine, relaxed, free)
            else:
                pulled = step.pull(mine, relaxed)
        with torch.no_grad():
            size = torch.linalg.vector_norm(mine.a.detach().flatten(2), 1, dim=2) * heavy.unsqueeze(1)
            mass += size
            error += gamma(2 * roundings + 16) * size
            if off is not None:
                lost += off
        constant = constant + pulled.constant
        for source, part in zip(sources, pulled.rows, strict=True):
            if part is None:
                continue
            held = pending.get(source)
            pending[source] = part if held is None else held.plus(part, program.shapes[source])
    error = error + gamma(4 * len(steps) + 64) * (mass + constant.detach().abs()) + 2.0**-900
    return Back(pending, constant, error, lost * (1 + 2.0**-20))


def lower_bound(
    found: Relaxation,
    node: str,
    rows: Rows,
    *,
    to_inputs: bool = True,
    fused: bool = False,
    parameters: dict[str, Tensor] | None = None,
    extra: dict[str, Tensor] | None = None,
) -> Tensor:
    """Return a lower bound of rows . value over the region; the arguments are those of `pull_back`.

    Returns:
        (n, rows) float64, of the executed network; minus infinity where nothing is known.
    """
    return both_bounds(found, node, rows, to_inputs=to_inputs, fused=fused, parameters=parameters, extra=extra)[0]


def both_bounds(
    found: Relaxation,
    node: str,
    rows: Rows,
    *,
    to_inputs: bool = True,
    fused: bool = False,
    parameters: dict[str, Tensor] | None = None,
    extra: dict[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the same for the executed network, and for the network in real arithmetic, (n, rows) each."""
    return concretised(
        found, pull_back(found, node, rows, to_inputs=to_inputs, fused=fused, parameters=parameters, extra=extra)
    )


def concretised(found: Relaxation, back: Back) -> tuple[Tensor, Tensor]:
    """Return the smallest values of the linear functions that `pull_back` ended with.

    Returns:
        (n, rows) float64 of the executed network, minus infinity where something may overflow; and in real arithmetic.
    """
    executed, real = minima(found, back)
    return torch.where(found.overflows.unsqueeze(1), -torch.inf, executed), real


def minima(found: Relaxation, back: Back) -> tuple[Tensor, Tensor]:
    """Return the same, of the executed network as if nothing overflowed: for intervals of values on the way."""
    total = back.constant - back.error
    for name, a in back.rows.items():
        image = name == found.program.images
        whole = a.whole(found.program.shapes[name])
        total = total + (found.region.minimum(a) if image else _minimum(found.intervals[name], whole.a))
    # The sums just made: two or three terms, each within a rounding.
    total = total - 16 * 2.0**-53 * (total.detach().abs() + back.constant.detach().abs())
    real = torch.where(torch.isnan(total), -torch.inf, total)
    executed = real - (back.off + 2.0**-53 * (real.detach().abs() + back.off))
    return torch.where(torch.isnan(executed), -torch.inf, executed), real


def _minimum(interval: Interval, a: Tensor) -> Tensor:
    """Min a . v for v in an interval, rounding included."""
    flat, low, high = a.flatten(2), interval.lower.flatten(1), interval.upper.flatten(1)
    half = (high - low) / 2
    size = flat.abs()
    found = torch.bmm(flat, (low + half).unsqueeze(2)) - torch.bmm(size, half.unsqueeze(2))
    error = gamma(4 * flat.shape[2] + 64) * 4 * interval.largest.unsqueeze(1) * size.sum(2)
    return found.squeeze(2) - error
