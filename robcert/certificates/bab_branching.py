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


def scored(found: Relaxation, step: Adjustable, a: Tensor, parameters: Tensor | None) -> Scores:
    """Return the scores of a step whose result has coefficients ``a`` (n, *shape); see `Adjustable.costs`."""
    given = [found.intervals[name] for name in step.sources]
    costs = step.costs(given, found.lines(step), a, None if parameters is None else parameters.detach())
    return {(step.node, name): cost for name, cost in zip(step.sources, costs, strict=True)}


def candidates(found: Relaxation, splits: Splits, scores: Scores, k: int) -> list[Split]:
    """Return the signs of subproblem k that cost most; none where what is left is a convex programme.

    Where none costs anything, that is one in front of a split one that is not linear yet.

    Args:
        found: the relaxation of n subproblems.
        splits: their conditions, (n, *shape).
        scores: of every step that has coefficients.
        k: which.
    """
    steps = [step for step in found.program.steps if isinstance(step, Adjustable)]
    best: list[tuple[float, str, int]] = []
    loose: tuple[int, Split] | None = None
    for place, step in enumerate(steps):
        given = [found.intervals[name] for name in step.sources]
        for name, free in zip(step.sources, step.loose(given, found.lines(step)), strict=True):
            open_ = (free[k] & (splits[name][k] == 0)).flatten()
            if not bool(open_.any()):
                continue
            if loose is None:
                low, high = found.intervals[name].lower[k], found.intervals[name].upper[k]
                loose = place, (name, int((low.negative().minimum(high).flatten() * open_).argmax()))
            if (step.node, name) in scores:
                score = scores[step.node, name][k].flatten() * open_
                top = score.topk(min(CANDIDATES, len(score)))
                best += [(v, name, i) for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True) if v > 0]
    if best:
        return [(name, index) for _, name, index in sorted(best, reverse=True)[:CANDIDATES]]
    if loose is None:
        return []
    # A split value behind one that is still relaxed is not a linear function of the input yet.
    place, first = loose
    later = [name for step in steps[place + 1 :] for name in step.sources]
    return [first] if any(bool(splits[name][k].any()) for name in later) else []
