"""The linear programme that is left where every ReLU is linear; its solver is trusted with nothing."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from robcert.bounds.linear.backward import Relaxation, lower_bound, pull_back
from robcert.bounds.linear.coefficients import Rows

_PENALTY = 1e4
"""Price of violating a condition, relative to the function: an empty subproblem has a large minimum instead of none."""


def solve_leaf(found: Relaxation, row: Tensor, splits: dict[str, Tensor]) -> tuple[float, Tensor | None]:
    r"""Min f over the inputs for which every split value has its sign.

    Minimises :math:`f(x) + P \sum_k t_k` with :math:`s_k z_k(x) \ge -t_k, t \ge 0`. The multipliers of the conditions
    go into the same bound as those that ascent finds.

    Args:
        found: the relaxation of one image in which the split ReLUs are linear.
        row: (classes,) float64.
        splits: (1, *shape) int8 by name of the value.

    Returns:
        A proven lower bound, and the solution (*shape) float64, or None.
    """
    program, region = found.program, found.region
    names = [name for name, sign in splits.items() if bool(sign.any())]
    rows = Rows(row.view(1, 1, -1))
    with torch.no_grad():
        objective = pull_back(found, program.logits, rows).rows[program.images].a.flatten().numpy()
        conditions: list[np.ndarray] = []
        offsets: list[np.ndarray] = []
        places: list[tuple[str, Tensor]] = []
        for name in names:
            sign = splits[name].flatten()
            at = sign.nonzero().flatten()
            one = torch.zeros(1, len(at), len(sign), dtype=torch.float64)
            one[0, torch.arange(len(at)), at] = sign[at].double()
            back = pull_back(found, name, Rows(one.unflatten(2, program.shapes[name])))
            conditions.append(back.rows[program.images].a.flatten(2)[0].numpy())
            offsets.append(back.constant[0].numpy())
            places.append((name, at))
    lower, upper = (side.flatten().numpy() for side in (region.lower, region.upper))
    centre = region.x.flatten().numpy()
    count, k = len(objective), sum(len(c) for c in conditions)
    a = np.concatenate(conditions) if conditions else np.zeros((0, count))
    b = np.concatenate(offsets) if offsets else np.zeros(0)
    price = _PENALTY * (np.abs(objective).max() + 1e-9) / max(np.abs(a).max(), 1e-9) if k else 0.0
    matrix, limits = np.hstack([-a, -np.eye(k)]), b.copy()
    cost, bounds = np.concatenate([objective, np.full(k, price)]), [*zip(lower, upper, strict=True), *[(0, None)] * k]
    if region.norm == "l1":  # x = centre + p - q with p, q >= 0 and sum p + q <= eps
        matrix = np.hstack([-a, a, -np.eye(k)])
        limits = b + a @ centre
        matrix = np.vstack([matrix, np.concatenate([np.ones(2 * count), np.zeros(k)])])
        limits = np.append(limits, float(region.eps))
        cost = np.concatenate([objective, -objective, np.full(k, price)])
        bounds = [*((0, u - c) for u, c in zip(upper, centre, strict=True)),
                  *((0, c - low) for low, c in zip(lower, centre, strict=True)), *[(0, None)] * k]  # fmt: skip
    solved = linprog(cost, A_ub=matrix if len(limits) else None, b_ub=limits if len(limits) else None, bounds=bounds)
    if solved.status != 0:
        return -float("inf"), None
    extra: dict[str, Tensor] = {}
    multipliers = -np.asarray(solved.ineqlin.marginals)[:k] if k else np.zeros(0)
    start = 0
    for name, at in places:
        beta = torch.zeros(splits[name].numel(), dtype=torch.float64)
        beta[at] = torch.from_numpy(np.maximum(multipliers[start : start + len(at)], 0.0).copy())
        start += len(at)
        signed = -splits[name].flatten().double() * beta
        extra[name] = signed.view(1, 1, *program.shapes[name])
    with torch.no_grad():
        bound = float(lower_bound(found, program.logits, rows, extra=extra))
    x = solved.x[:count] if region.norm == "linf" else centre + solved.x[:count] - solved.x[count : 2 * count]
    point = torch.from_numpy(np.clip(x, lower, upper)).view(region.x.shape[1:])
    return bound, point
