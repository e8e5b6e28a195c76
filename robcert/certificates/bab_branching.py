"""The ReLUs on whose sign a subproblem may be split, the most promising first."""

from __future__ import annotations

from torch import Tensor

from robcert.bounds.linear.activations import PiecewiseLinear
from robcert.bounds.linear.backward import Relaxation

Splits = dict[str, Tensor]
"""Name of the input of a ReLU -> 1 (not negative), -1 (not positive) or 0 (any) for each entry: (*shape) int8."""
Split = tuple[str, int]
"""Input of a ReLU, and the position of an entry."""

CANDIDATES = 3
"""Splits of a subproblem that are tried out."""


def half(splits: Splits, split: Split, sign: int) -> Splits:
    """Return the conditions of a subproblem, and one more."""
    name, index = split
    found = {key: value.clone() if key == name else value for key, value in splits.items()}
    found[name].view(-1)[index] = sign
    return found


def costs(found: Relaxation, step: PiecewiseLinear, a: Tensor) -> Tensor:
    """Return what the relaxation of each ReLU takes from a bound with coefficients ``a`` (n, *shape) of its result.

    The line with an intercept costs |a| times it (the intercept score of BaBSR, Bunel et al. 2020); the best line
    through 0 on the other side costs less than that.
    """
    relaxed = found.lines(step)
    above, below = relaxed.upper_shift, -relaxed.lower_shift
    return -a.clamp_max(0) * above.maximum(below * 0.5) + a.clamp_min(0) * below.maximum(above * 0.5)


def candidates(found: Relaxation, splits: Splits, scores: dict[str, Tensor], k: int) -> list[Split]:
    """Return the ReLUs of subproblem k that cost most; none where what is left is a convex programme.

    Where none costs anything, that is one in front of a split one that is not linear yet.

    Args:
        found: the relaxation of n subproblems.
        splits: their conditions, (n, *shape).
        scores: `costs` by the name of the step.
        k: which.
    """
    steps = [step for step in found.program.steps if not step.affine]
    best: list[tuple[float, str, int]] = []
    loose: Split | None = None
    for step in steps:
        name = step.sources[0]
        low, high = found.intervals[name].lower[k], found.intervals[name].upper[k]
        free = ((low < 0) & (high > 0) & (splits[name][k] == 0)).flatten()
        if not bool(free.any()):
            continue
        if loose is None:
            loose = name, int((low.negative().minimum(high).flatten() * free).argmax())
        if step.node in scores:
            score = scores[step.node][k].flatten() * free
            top = score.topk(min(CANDIDATES, len(score)))
            best += [(v, name, i) for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True) if v > 0]
    if best:
        return [(name, index) for _, name, index in sorted(best, reverse=True)[:CANDIDATES]]
    if loose is None:
        return []
    # A split value behind one that is still relaxed is not a linear function of the input yet.
    order = [step.sources[0] for step in steps]
    later = order[order.index(loose[0]) + 1 :]
    return [loose] if any(bool(splits[name][k].any()) for name in later) else []
