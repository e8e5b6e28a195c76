"""Branch and bound on random small networks against enumeration and a mixed-integer programme: proofs and examples."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.linear.inputs import Region, region
from robcert.bounds.linear.program import program
from robcert.certificates.bab_search import Outcome, decide
from robcert.network import from_module
from robcert.threats.kind import norm_of
from robcert.types import BoundNorm
from tests.certificates.exact import by_enumeration, by_milp

ROW = np.array([1.0, -1.0, 0.0])
EPS: dict[BoundNorm, float] = {"linf": 0.3, "l1": 0.9, "l2": 0.5}


def network(seed: int, kind: str = "relu", units: int = 12) -> nn.Sequential:
    """Two hidden layers of a kind, four inputs, three outputs."""
    torch.manual_seed(seed)
    first, last = nn.Linear(4, units), nn.Linear(units, 3)
    if kind == "relu":
        net = nn.Sequential(first, nn.ReLU(), nn.Linear(units, units), nn.ReLU(), last)
    elif kind == "leaky":
        net = nn.Sequential(first, nn.LeakyReLU(0.2), nn.Linear(units, units), nn.LeakyReLU(0.05), last)
    else:
        size, stride = {"pool": (3, 3), "overlap": (3, 2)}[kind]
        width = (units - size) // stride + 1
        pool = nn.Unflatten(1, (1, units)), nn.MaxPool1d(size, stride), nn.Flatten()
        inner = nn.Linear(width, units), nn.ReLU(), last
        net = nn.Sequential(first, *((nn.ReLU(), *pool) if seed % 2 else pool), *inner)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1.2 / layer.in_features**0.5)
            nn.init.normal_(layer.bias, std=0.3)
    return net


class Question:
    """A network, a ball, and the function whose minimum is asked for."""

    def __init__(self, net: nn.Sequential, norm: BoundNorm = "linf", eps: float | None = None) -> None:
        self.model = from_module(net, (4,), 3)
        radius = torch.tensor([eps or EPS[norm]], dtype=torch.float64)
        self.region: Region = region(torch.rand(1, 4), radius, norm, (0.0, 1.0))
        self.row = torch.from_numpy(ROW)
        self._wide = copy.deepcopy(net).double()

    def value(self, points: Tensor) -> Tensor:
        with torch.no_grad():
            return self._wide(points) @ self.row

    def decide(self, needed: float) -> Outcome:
        return decide(program(self.model), self.region, self.row, needed, self.value, seconds=300)

    def holds(self, point: Tensor) -> bool:
        far = norm_of(self.region.norm).norm((point - self.region.x[0]).view(1, -1))
        inside = (point >= self.region.lower[0]) & (point <= self.region.upper[0])
        return bool(inside.all()) and float(far) <= float(self.region.eps) * (1 + 1e-9)


def agrees(seed: int, net: nn.Sequential, exact: Callable[..., float], norm: BoundNorm = "linf") -> None:
    """A little below the exact minimum everything is proven, a little above it a point is found."""
    asked = Question(net, norm)
    truth = exact(net, asked.region, ROW)
    step = 1e-4 * (1 + abs(truth))
    below, above = asked.decide(truth - step), asked.decide(truth + step)
    assert below.status == "certified", (seed, below)
    assert above.status == "broken", (seed, above)
    assert above.point is not None and asked.holds(above.point)
    assert truth - 1e-6 <= float(asked.value(above.point.unsqueeze(0))) <= truth + step


@pytest.mark.drawn(20)
@pytest.mark.parametrize("seed", range(40))
def test_ten_units_by_enumeration(seed: int) -> None:
    agrees(seed, network(seed, units=5), by_enumeration)


@pytest.mark.drawn(24)
@pytest.mark.parametrize("kind", ["relu", "leaky", "pool", "overlap"])
@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("seed", range(1000, 1030))
def test_random_networks_by_milp(seed: int, norm: BoundNorm, kind: str) -> None:
    agrees(seed, network(seed, kind), by_milp, norm)


@pytest.mark.drawn(8)
@pytest.mark.parametrize("kind", ["relu", "leaky", "pool", "overlap"])
@pytest.mark.parametrize("seed", range(2000, 2010))
def test_random_networks_in_an_l2_ball(seed: int, kind: str) -> None:
    """A convex programme of every pattern is left: whatever is asked is decided, and no point contradicts a proof."""
    net = network(seed, kind)
    asked = Question(net, "l2")
    steps = torch.randn(20_000, 4, dtype=torch.float64)
    steps *= EPS["l2"] / steps.norm(dim=1, keepdim=True)
    points = (asked.region.x + steps).clamp(0, 1)
    least = float(asked.value(points).min())
    size = 1e-2 * (1 + abs(least))
    above, below = asked.decide(least + size), asked.decide(least - 10 * size)
    assert above.status == "broken" and above.point is not None and asked.holds(above.point)
    assert float(asked.value(above.point.unsqueeze(0))) <= least + size
    assert below.status in ("certified", "broken")
    if below.point is not None:
        assert asked.holds(below.point) and float(asked.value(below.point.unsqueeze(0))) <= least - 10 * size
