r"""Max pooling with the differences of its entries, so that whoever splits ReLUs splits on which entry wins.

Every difference of two entries of a window becomes a value of its own, which linear bounds refine and a condition can
be put on; `robcert.bounds.linear.maximum` makes planes of them. A ReLU in front of a maximum, or behind it, becomes one
more entry: :math:`\max_i \mathrm{relu}(x_i) = \mathrm{relu}(\max_i x_i) = \max(x_1, \dots, x_m, 0)`. Then the
differences of what one layer computes from the images are linear functions of these.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robcert.bounds.linear.activations import PiecewiseLinear
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.maximum import Maximum
from robcert.bounds.linear.order_statistics import OrderStatistic
from robcert.bounds.linear.program import Program, targets
from robcert.bounds.linear.step import Interval, Pulled, Step, widened


@dataclass(frozen=True, eq=False)
class Differences(Step):
    """Entry ``one`` less entry ``other``, both (pairs,) int64: positions in one flattened image of the source."""

    one: Tensor
    other: Tensor
    in_shape: tuple[int, ...]

    @property
    def roundings(self) -> int:
        """An entry takes part in at most all pairs."""
        return len(self.one) + 16

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The end of one less the opposite end of the other."""
        low, high = given[0].lower.flatten(1), given[0].upper.flatten(1)
        lower, upper = low[:, self.one] - high[:, self.other], high[:, self.one] - low[:, self.other]
        return widened(lower, upper, self.error(given))

    def magnitude(self, given: list[Interval], relaxed: None) -> Tensor:
        """Twice the largest entry."""
        return 2 * given[0].largest

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """The coefficient to one, and less it to the other."""
        out = rows.a.new_zeros(*rows.a.shape[:2], math.prod(self.in_shape))
        out = out.index_add(2, self.one, rows.a).index_add(2, self.other, -rows.a)
        return Pulled([Rows(out.unflatten(2, self.in_shape))])


def is_maximum(step: Step) -> bool:
    """Return whether a step gives the largest of some entries."""
    return isinstance(step, Maximum) or (isinstance(step, OrderStatistic) and not bool(step.rank.any()))


def compared(program: Program) -> Program:
    """Return the same network with differences beside its maxima; values that are in both have the same names."""
    if not any(isinstance(step, OrderStatistic) and is_maximum(step) for step in program.steps):
        return program
    steps: list[Step] = []
    for step, floor in _with_zero(program):
        steps += _contest(step, floor) if isinstance(step, OrderStatistic) and is_maximum(step) else [step]
    shapes = {program.images: program.shapes[program.images], **{step.node: step.shape for step in steps}}
    return replace(program, steps=tuple(steps), shapes=shapes, targets=targets(tuple(steps), program.images), fused={})


def _with_zero(program: Program) -> list[tuple[Step, bool]]:
    """The steps; with a maximum, whether a ReLU next to it is part of it: nothing else reads what is between."""
    readers = {step.node: [s for s in program.steps if step.node in s.sources] for step in program.steps}
    by_name = {step.node: step for step in program.steps}

    def alone(step: Step, reader: Step) -> bool:
        return len(readers[step.node]) == 1 and readers[step.node][0] is reader and step.node != program.logits

    left_out: set[str] = set()
    found: dict[str, tuple[Step, bool]] = {}
    for step in program.steps:
        found.setdefault(step.node, (step, False))
        if not (isinstance(step, OrderStatistic) and is_maximum(step)):
            continue
        before = by_name.get(step.sources[0])
        after = readers[step.node][0] if readers[step.node] else None
        if before is not None and _is_relu(before) and alone(before, step):
            left_out.add(before.node)
            step = replace(step, sources=before.sources)
            found[step.node] = step, True
        if after is not None and _is_relu(after) and alone(step, after):
            left_out.add(step.node)
            found[after.node] = replace(step, node=after.node), True
    return [found[step.node] for step in program.steps if step.node not in left_out]


def _is_relu(step: Step) -> bool:
    return isinstance(step, PiecewiseLinear) and not bool(step.below.any())


def _contest(step: OrderStatistic, floor: bool) -> list[Step]:
    """The differences of all pairs of a window, and the maximum."""
    windows = [list(dict.fromkeys(at for at in window if at >= 0)) for window in step.index.tolist()]
    pairs = sorted({pair for window in windows for pair in itertools.combinations(sorted(window), 2)})
    number, entries = {pair: k for k, pair in enumerate(pairs)}, math.prod(step.in_shape)
    most, nothing = max(map(len, windows)), 2 * len(pairs) + 2 * entries
    index = torch.tensor([window + [-1] * (most - len(window)) for window in windows])
    leads = torch.full((len(windows), most + floor, most + floor), nothing)
    for row, window in zip(leads, windows, strict=True):
        for (i, a), (j, b) in itertools.permutations(enumerate(window), 2):
            row[i, j] = number[a, b] if a < b else len(pairs) + number[b, a]
        if floor:
            for i, a in enumerate(window):
                row[i, most], row[most, i] = 2 * len(pairs) + a, 2 * len(pairs) + entries + a
    source, name = step.sources[0], f"{step.node}.differences"
    one, other = (torch.tensor([pair[k] for pair in pairs], dtype=torch.int64) for k in (0, 1))
    return [
        Differences(name, step.layer, (source,), (len(pairs),), one, other, step.in_shape),
        Maximum(
            step.node,
            step.layer,
            (source, name),
            step.shape,
            index.T.contiguous(),
            leads.permute(1, 2, 0).contiguous(),
            floor,
            step.in_shape,
        ),
    ]
