"""The smallest value of a linear function of the logits of small networks, by other means than branch and bound."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from torch import nn

from robcert.bounds.linear.inputs import Region


def layers(net: nn.Module) -> list[tuple[np.ndarray, np.ndarray]]:
    found = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    return [(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()) for layer in found]


def by_enumeration(net: nn.Module, region: Region, row: np.ndarray) -> float:
    """One linear programme for each of the 2^n patterns of active units: three layers, ReLU, an l-infinity ball."""
    low, high = (side.flatten().numpy() for side in (region.lower, region.upper))
    (w1, b1), (w2, b2), (w3, b3) = layers(net)
    best = np.inf
    for pattern in itertools.product((0.0, 1.0), repeat=len(b1) + len(b2)):
        first, second = np.array(pattern[: len(b1)]), np.array(pattern[len(b1) :])
        a2, c2 = w2 @ (first[:, None] * w1), w2 @ (first * b1) + b2
        a3, c3 = w3 @ (second[:, None] * a2), w3 @ (second * c2) + b3
        signs = np.concatenate([2 * first - 1, 2 * second - 1])
        conditions, offsets = np.vstack([w1, a2]), np.concatenate([b1, c2])
        solved = linprog(
            row @ a3, A_ub=-signs[:, None] * conditions, b_ub=signs * offsets, bounds=list(zip(low, high, strict=True))
        )
        if solved.status == 0:
            best = min(best, solved.fun + row @ c3)
    return best


class Mixed:
    """A mixed-integer programme (HiGHS), variable by variable; every variable has bounds."""

    def __init__(self) -> None:
        self.low: list[float] = []
        self.high: list[float] = []
        self.whole: list[int] = []
        self.rows: list[tuple[dict[int, float], float, float]] = []

    def variable(self, low: float, high: float, whole: bool = False) -> int:
        self.low.append(low)
        self.high.append(high)
        self.whole.append(int(whole))
        return len(self.low) - 1

    def condition(self, row: dict[int, float], low: float, high: float = np.inf) -> None:
        self.rows.append((row, low, high))

    def affine(self, weights: np.ndarray, bias: float, of: list[int]) -> int:
        """weights . v + bias."""
        low, high = (np.array([side[v] for v in of]) for side in (self.low, self.high))
        ends = np.minimum(weights * low, weights * high).sum(), np.maximum(weights * low, weights * high).sum()
        made = self.variable(ends[0] + bias, ends[1] + bias)
        self.condition({made: 1.0, **{v: -w for v, w in zip(of, weights.tolist(), strict=True)}}, bias, bias)
        return made

    def rectified(self, z: int, below: float) -> int:
        """max(z, below z)."""
        low, high = min(self.low[z], -1e-3), max(self.high[z], 1e-3)
        made, active = self.variable(below * low, high), self.variable(0, 1, whole=True)
        self.condition({made: 1, z: -1}, 0)
        self.condition({made: 1, z: -below}, 0)
        self.condition({made: -1, z: 1, active: (1 - below) * low}, (1 - below) * low)
        self.condition({made: -1, z: below, active: (1 - below) * high}, 0)
        return made

    def largest(self, of: list[int]) -> int:
        """max of some variables."""
        made = self.variable(max(self.low[v] for v in of), max(self.high[v] for v in of))
        wins = [self.variable(0, 1, whole=True) for _ in of]
        self.condition(dict.fromkeys(wins, 1.0), 1, 1)
        for v, win in zip(of, wins, strict=True):
            slack = self.high[made] - self.low[v]
            self.condition({made: 1, v: -1}, 0)
            self.condition({made: -1, v: 1, win: -slack}, -slack)
        return made

    def minimum(self, cost: dict[int, float]) -> float:
        matrix, c = np.zeros((len(self.rows), len(self.low))), np.zeros(len(self.low))
        for k, (row, _, _) in enumerate(self.rows):
            matrix[k, list(row)] = list(row.values())
        c[list(cost)] = list(cost.values())
        ends = np.array([low for _, low, _ in self.rows]), np.array([high for _, _, high in self.rows])
        solved = milp(
            c,
            constraints=LinearConstraint(matrix, *ends),  # pyright: ignore[reportArgumentType]
            bounds=Bounds(np.array(self.low), np.array(self.high)),  # pyright: ignore[reportArgumentType]
            integrality=np.array(self.whole),
            options={"mip_rel_gap": 1e-9},
        )
        return float(solved.fun)


def by_milp(net: nn.Module, region: Region, row: np.ndarray) -> float:
    """The same for sequences of linear layers, ReLU, leaky ReLU and one-dimensional max pooling; l-infinity and l1."""
    programme = Mixed()
    low, high = (side.flatten().tolist() for side in (region.lower, region.upper))
    values = [programme.variable(*ends) for ends in zip(low, high, strict=True)]
    if region.norm == "l1":
        eps = float(region.eps)
        away: dict[int, float] = {}
        for v, centre in zip(values, region.x.flatten().tolist(), strict=True):
            far = programme.variable(0, eps)
            programme.condition({far: 1, v: -1}, -centre)
            programme.condition({far: 1, v: 1}, centre)
            away[far] = -1.0
        programme.condition(away, -eps)
    for layer in net.children():
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
            values = [programme.affine(w, float(b), values) for w, b in zip(weight, bias, strict=True)]
        elif isinstance(layer, (nn.ReLU, nn.LeakyReLU)):
            values = [programme.rectified(v, float(getattr(layer, "negative_slope", 0.0))) for v in values]
        elif isinstance(layer, nn.MaxPool1d):
            size, step = int(layer.kernel_size), int(layer.stride)  # type: ignore[arg-type]
            starts = range(0, len(values) - size + 1, step)
            values = [programme.largest(values[start : start + size]) for start in starts]
        else:
            assert isinstance(layer, (nn.Flatten, nn.Unflatten))
    return programme.minimum(dict(zip(values, row.tolist(), strict=True)))
