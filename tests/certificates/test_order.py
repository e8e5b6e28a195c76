"""A method that costs more returns no less."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from robcert.certificates import Search, certificates
from robcert.errors import EvaluationError
from robcert.network import from_module
from robcert.types import BOUND_NORMS, BoundNorm
from tests.certificates.test_bab_exact import network

LINEAR = ("ibp", "crown-ibp", "crown", "alpha-crown", "bab")
"""Each of these bounds what the one before it bounds, and more tightly; Lipschitz constants are another matter."""
TOLERANCE = 0.01


@pytest.mark.drawn(4)
@pytest.mark.parametrize("norm", BOUND_NORMS)
@pytest.mark.parametrize("kind", ["relu", "leaky", "pool", "overlap"])
def test_no_method_returns_less_than_a_cheaper_one(kind: str, norm: BoundNorm) -> None:
    """Under both radii; each ends within its tolerance of the largest radius that it can prove."""
    net = network(7, kind, units=6)
    model, x = from_module(net, (4,), 3), torch.rand(5, 4)
    y = net(x).argmax(1)
    search = Search(largest=True, tolerance=TOLERANCE)
    found = {}
    for name, one in certificates.items():
        if one.probabilistic:
            continue
        try:
            found[name] = certificates.get(name)(model, x, y, norm, search)
        except EvaluationError:
            continue
    assert {*LINEAR, "gap", "best"} <= found.keys()
    costs = [certificates.get(name).cost or 0.0 for name in LINEAR]
    assert costs == sorted(costs)
    for radius in ("radius", "radius_real"):
        for cheaper, dearer in itertools.pairwise(LINEAR):
            less, more = (getattr(found[name], radius) for name in (cheaper, dearer))
            assert bool((more >= less * (1 - 2 * TOLERANCE)).all()), (radius, cheaper, dearer)
        for name, one in found.items():
            if name != "bab":  # `best` decides budgets by it, and looks for radii without
                assert bool((getattr(found["best"], radius) >= getattr(one, radius) * (1 - 2 * TOLERANCE)).all()), name


def test_a_real_radius_is_searched_for_beyond_the_executed_one() -> None:
    """Weights of 1e6 that cancel: rounding takes away the executed radius long before the real one ends."""
    first, last = nn.Linear(2, 4), nn.Linear(4, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1e6, 0.0], [1e6, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        first.bias.copy_(torch.tensor([1e6, 1e6, 0.0, 0.0]))
        last.weight.copy_(torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]]))
        last.bias.copy_(torch.tensor([1.0, 0.0]))
    model = from_module(nn.Sequential(first, nn.ReLU(), last), (2,), 2, box=(-0.4, 0.4))
    x = torch.zeros(1, 2)
    found = certificates.get("crown")(model, x, torch.zeros(1).long(), "linf", Search(largest=True, tolerance=0.01))
    # f_0 - f_1 = 1 + v in real arithmetic: no radius in the box breaks it.
    assert float(found.radius_real) >= 0.4 * 0.98
    assert float(found.radius) < float(found.radius_real)
