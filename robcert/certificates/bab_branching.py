"""The signs on which a subproblem may be split, the most promising first."""

from __future__ import annotations

from torch import Tensor

from robcert.bounds.linear.backward import Relaxation
from robcert.bounds.linear.step import Adjustable

Splits = dict[str, Tensor]
"""Name of what a step reads -> 1 (not negative), -1 (not positive) or 0 (any) for each entry: (*shape) int8."""
Split = tuple[str, int]
"""Name of what a step reads, and the position of an entry."""

CANDIDATES = 3
"""Splits of a subproblem that are tried out."""


def half(splits: Splits, split: Split, sign: int) -> Splits:
    """Return the conditions of a subproblem, and one more."""
    name, index = split
    found = {key: value.clone() if key == name else value for key, value in splits.items()}
    found[name].view(-1)[index] = sign
    return found


Scores = dict[tuple[str, str], Tensor]
"""Name of a step and of what it reads -> what not knowing the sign of an entry costs, (n, *shape)."""


def scored(found: Relaxation, coefficients: dict[str, Tensor], parameters: dict[str, Tensor]) -> Scores:
    """Return what not knowing each sign costs; see `Adjustable.costs`.

    Args:
        found: the relaxation of n subproblems.
        coefficients: (n, *shape) of the result of every step that has some, by its name.
        parameters: of relaxations, (n, 1, *any), likewise.
    """
    scores: Scores = {}
    for step in found.program.steps:
        if isinstance(step, Adjustable) and step.node in coefficients:
            given, free = [found.intervals[name] for name in step.sources], parameters.get(step.node)
            costs = step.costs(
                given, found.lines(step), coefficients[step.node], None if free is None else free.detach()
            )
            scores |= {(step.node, name): cost for name, cost in zip(step.sources, costs, strict=True)}
    return scores


def candidates(found: Relaxation, splits: Splits, scores: Scores) -> list[list[Split]]:
    """Return the signs of each subproblem that cost most; none where what is left is a convex programme.

    Where none costs anything, that is one in front of a split one that is not linear yet.

    Args:
        found: the relaxation of n subproblems.
        splits: their conditions, (n, *shape).
        scores: of every step that has coefficients.
    """
    steps = [step for step in found.program.steps if isinstance(step, Adjustable)]
    undecided: list[tuple[int, str, str, Tensor]] = []
    for place, step in enumerate(steps):
        loose = step.loose([found.intervals[name] for name in step.sources], found.lines(step))
        for name, free in zip(step.sources, loose, strict=True):
            undecided.append((place, step.node, name, (free & (splits[name] == 0)).flatten(1)))
    return [_candidates(found, splits, scores, steps, undecided, k) for k in range(len(found.region))]


def _candidates(
    found: Relaxation,
    splits: Splits,
    scores: Scores,
    steps: list[Adjustable],
    undecided: list[tuple[int, str, str, Tensor]],
    k: int,
) -> list[Split]:
    """Those of subproblem k."""
    best: list[tuple[float, str, int]] = []
    first: tuple[int, Split] | None = None
    for place, node, name, free in undecided:
        if not bool(free[k].any()):
            continue
        if first is None:
            low, high = found.intervals[name].lower[k], found.intervals[name].upper[k]
            first = place, (name, int((low.negative().minimum(high).flatten() * free[k]).argmax()))
        if (node, name) in scores:
            score = scores[node, name][k].flatten() * free[k]
            top = score.topk(min(CANDIDATES, len(score)))
            best += [(v, name, i) for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True) if v > 0]
    if best:
        return [(name, index) for _, name, index in sorted(best, reverse=True)[:CANDIDATES]]
    if first is None:
        return []
    # A split value behind one that is still relaxed is not a linear function of the input yet.
    place, split = first
    later = [name for step in steps[place + 1 :] for name in step.sources]
    return [split] if any(bool(splits[name][k].any()) for name in later) else []
