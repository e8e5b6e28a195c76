"""The convex programme that is left where every ReLU is linear; its solver is trusted with nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robcert.bounds.linear.backward import Relaxation, lower_bound, pull_back
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region

_PENALTY = 1e4
"""Price of violating a condition, relative to the function: an empty subproblem has a large minimum instead of none."""
_STEPS = 200
_BISECTIONS = 60

Solution = tuple[np.ndarray, np.ndarray]
"""Multipliers (conditions,) that are not negative, and inputs (entries,)."""


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
    count = region.x.numel()
    with torch.no_grad():
        objective = _of_images(found, program.logits, rows)[0][0]
        conditions: list[np.ndarray] = [np.zeros((0, count))]
        offsets: list[np.ndarray] = [np.zeros(0)]
        places: list[tuple[str, Tensor]] = []
        for name in names:
            sign = splits[name].flatten()
            at = sign.nonzero().flatten()
            one = torch.zeros(1, len(at), len(sign), dtype=torch.float64)
            one[0, torch.arange(len(at)), at] = sign[at].double()
            a, b = _of_images(found, name, Rows(one.unflatten(2, program.shapes[name])))
            conditions.append(a)
            offsets.append(b)
            places.append((name, at))
    a, b = np.concatenate(conditions), np.concatenate(offsets)
    price = _PENALTY * (np.abs(objective).max() + 1e-9) / max(np.abs(a).max(), 1e-9) if len(a) else 0.0
    solved = (_by_ascent if region.norm == "l2" else _by_simplex)(region, objective, a, b, price)
    if solved is None:
        return -float("inf"), None
    multipliers, x = solved
    extra: dict[str, Tensor] = {}
    start = 0
    for name, at in places:
        beta = torch.zeros(splits[name].numel(), dtype=torch.float64)
        beta[at] = torch.from_numpy(np.maximum(multipliers[start : start + len(at)], 0.0).copy())
        start += len(at)
        signed = -splits[name].flatten().double() * beta
        extra[name] = signed.view(1, 1, *program.shapes[name])
    with torch.no_grad():
        bound = float(lower_bound(found, program.logits, rows, extra=extra))
    lower, upper = (side.flatten().numpy() for side in (region.lower, region.upper))
    return bound, torch.from_numpy(np.clip(x, lower, upper)).view(region.x.shape[1:])


def _of_images(found: Relaxation, name: str, rows: Rows) -> Solution:
    """Coefficients (rows, entries) of the images, and constants (rows,)."""
    back = pull_back(found, name, rows)
    a = back.rows.get(found.program.images)
    if a is None:
        return np.zeros((rows.a.shape[1], found.region.x.numel())), back.constant[0].numpy()
    return a.whole(found.region.x.shape[1:]).a.flatten(2)[0].numpy(), back.constant[0].numpy()


def _by_simplex(region: Region, objective: np.ndarray, a: np.ndarray, b: np.ndarray, price: float) -> Solution | None:
    """The linear programme of l-infinity and l1 balls (HiGHS)."""
    from scipy.optimize import linprog  # half a second that other methods are spared

    lower, upper = (side.flatten().numpy() for side in (region.lower, region.upper))
    centre, count, k = region.x.flatten().numpy(), len(objective), len(a)
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
        return None
    multipliers = -np.asarray(solved.ineqlin.marginals)[:k] if k else np.zeros(0)
    x = solved.x[:count] if region.norm == "linf" else centre + solved.x[:count] - solved.x[count : 2 * count]
    return multipliers, x


def _by_ascent(region: Region, objective: np.ndarray, a: np.ndarray, b: np.ndarray, price: float) -> Solution | None:
    r"""The dual of l2 balls, :math:`\max_{0 \le \beta \le P} \min_x (c - A^T \beta) x - \beta b`; it is smooth."""
    from scipy.optimize import minimize

    def fall(beta: np.ndarray) -> tuple[float, np.ndarray]:
        x = _lowest(region, objective - beta @ a)
        return float(beta @ b - (objective - beta @ a) @ x), a @ x + b

    if not len(a):
        return np.zeros(0), _lowest(region, objective)
    bounds = [(0.0, price)] * len(a)
    solved = minimize(fall, np.zeros(len(a)), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": _STEPS})
    return solved.x, _lowest(region, objective - solved.x @ a)


def _lowest(region: Region, a: np.ndarray) -> np.ndarray:
    r"""The input in l2 ball and box that minimises a x: :math:`x - a / \lambda`, cut to the box."""
    centre, eps = region.x.flatten().numpy(), float(region.eps)
    low, high = (side.flatten().numpy() - centre for side in (region.lower, region.upper))
    corner = np.where(a > 0, low, np.where(a < 0, high, 0.0))
    if np.linalg.norm(corner) <= eps:
        return centre + corner
    inner, outer = 0.0, eps / max(np.linalg.norm(a), 1e-300)
    while outer < 1e200 and np.linalg.norm(np.clip(-a * outer, low, high)) < eps:
        inner, outer = outer, 2 * outer
    for _ in range(_BISECTIONS):
        middle = (inner + outer) / 2
        inner, outer = (middle, outer) if np.linalg.norm(np.clip(-a * middle, low, high)) < eps else (inner, middle)
    return centre + np.clip(-a * inner, low, high)
