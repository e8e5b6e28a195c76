r"""Max pooling as a tournament of ReLUs, so that whoever splits ReLUs splits on which entry wins.

.. math:: \max(a, b) = b + \mathrm{relu}(a - b)

for all real numbers, and the largest of m entries is that of the largest of pairs. Where max pooling follows a ReLU,
they change places first: :math:`\max_i \mathrm{relu}(x_i) = \mathrm{relu}(\max_i x_i)`. Then the differences
:math:`a - b` of what one layer computes from the images are linear functions of these.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robcert.bounds.linear.activations import PiecewiseLinear
from robcert.bounds.linear.affine import Moved, Sum
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.joined import Joined
from robcert.bounds.linear.order_statistics import OrderStatistic
from robcert.bounds.linear.program import Program, targets
from robcert.bounds.linear.step import Pulled, Step


@dataclass(frozen=True, eq=False)
class Picked(Moved):
    """Entries ``at`` (outputs,) int64 of the flattened source, in that order."""

    at: Tensor

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """Coefficients are added up where an entry is read several times."""
        flat = rows.whole(self.shape).a.flatten(2)
        out = flat.new_zeros(*flat.shape[:2], torch.Size(self.in_shape).numel())
        return Pulled([Rows(out.index_add(2, self.at, flat).unflatten(2, self.in_shape))])


def is_maximum(step: Step) -> bool:
    """Return whether a step gives the largest of some entries."""
    return isinstance(step, OrderStatistic) and not bool(step.rank.any())


def compared(program: Program) -> Program:
    """Return the same network with ReLUs in place of maxima; values that are in both have the same names."""
    if not any(is_maximum(step) for step in program.steps):
        return program
    steps: list[Step] = []
    for step in _exchanged(program):
        steps += _tournament(step) if isinstance(step, OrderStatistic) and is_maximum(step) else [step]
    shapes = {program.images: program.shapes[program.images], **{step.node: step.shape for step in steps}}
    return replace(program, steps=tuple(steps), shapes=shapes, targets=targets(tuple(steps), program.images), fused={})


def _exchanged(program: Program) -> list[Step]:
    """The steps, with ReLU behind a maximum where it was in front of it and nothing else reads what is between."""
    found: list[Step] = []
    moved: dict[str, PiecewiseLinear] = {}
    for step in program.steps:
        readers = [s for s in program.steps if step.node in s.sources]
        before = len(readers) == 1 and is_maximum(readers[0])
        if before and isinstance(step, PiecewiseLinear) and not bool(step.below.any()):
            moved[step.node] = step
            continue
        if isinstance(step, OrderStatistic) and step.sources[0] in moved:
            relu, first = moved[step.sources[0]], f"{step.node}.before"
            found.append(replace(step, node=first, sources=relu.sources))
            below = torch.zeros([1] * len(step.shape), dtype=torch.float64)
            found.append(replace(relu, node=step.node, sources=(first,), shape=step.shape, below=below))
            continue
        found.append(step)
    return found


def _tournament(step: OrderStatistic) -> list[Step]:
    """Rounds of pairs of one window each; an entry without a partner goes to the next round."""
    windows = [list(dict.fromkeys(at for at in window if at >= 0)) for window in step.index.tolist()]
    source, shape = step.sources[0], step.in_shape
    steps: list[Step] = []
    while max(map(len, windows)) > 1:
        pairs = [pair for window in windows for pair in zip(window[0::2], window[1::2], strict=False)]
        left = [window[-1] for window in windows if len(window) % 2]
        size, name = (len(pairs),), f"{step.node}.{max(map(len, windows))}"
        one, other, difference, won, winner, rest, both = (
            f"{name}.{part}" for part in ("a", "b", "a-b", "relu", "max", "left", "round")
        )
        steps += [
            _picked(one, step.layer, source, shape, [a for a, _ in pairs], size),
            _picked(other, step.layer, source, shape, [b for _, b in pairs], size),
            Sum(difference, step.layer, (one, other), size, (1.0, -1.0), (size, size)),
            PiecewiseLinear(won, step.layer, (difference,), size, torch.zeros(1, dtype=torch.float64)),
            Sum(winner, step.layer, (other, won), size, (1.0, 1.0), (size, size)),
        ]
        next_pair, next_left = itertools.count(), itertools.count(len(pairs))
        windows = [
            [next(next_pair) for _ in range(len(window) // 2)] + [next(next_left) for _ in range(len(window) % 2)]
            for window in windows
        ]
        if left:
            steps.append(_picked(rest, step.layer, source, shape, left, (len(left),)))
            size = (len(pairs) + len(left),)
            steps.append(
                Joined(both, step.layer, (winner, rest), size, 0, (None, None), (len(pairs), len(left)), False)
            )
        source, shape = (both if left else winner), size
    steps.append(_picked(step.node, step.layer, source, shape, [window[0] for window in windows], step.shape))
    return steps


def _picked(
    node: str, layer: str, source: str, shape: tuple[int, ...], places: list[int], into: tuple[int, ...]
) -> Picked:
    at = torch.tensor(places)

    def pick(x: Tensor) -> Tensor:
        return x.flatten(1)[:, at].reshape(len(x), *into)

    copies = int(at.bincount().max())
    constant = torch.zeros(1, *into, dtype=torch.float64)
    return Picked(node, layer, (source,), into, pick, shape, copies == 1, float(copies), constant, at)
