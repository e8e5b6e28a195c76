"""What all attacks share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toys import REGISTERED, random_linear, run_leg, toy

from robcert.attacks.protocol import Problem, among_the_last
from robcert.types import Threat, ThreatNorm


@pytest.mark.parametrize(("iterations", "fine"), [(1, 1), (7, 1), (20, 1), (39, 1), (40, 2), (100, 5), (1000, 50)])
def test_every_search_ends_in_the_precision_of_the_network(iterations: int, fine: int) -> None:
    at = torch.arange(iterations)
    last = among_the_last(at, 1, iterations)
    assert int(last.sum()) == fine
    assert bool(last[-fine:].all())
    for steps in (2, 5):
        expected = [bool(last[k : k + steps].any()) for k in range(iterations)]
        assert among_the_last(at, steps, iterations).tolist() == expected


@pytest.mark.parametrize("eps", [1e20, 1e39, 1e300])
@pytest.mark.parametrize(("name", "norm"), [case for case in REGISTERED if case[0] != "cw-original"])
def test_a_budget_beyond_the_box_is_the_whole_box(name: str, norm: ThreatNorm, eps: float) -> None:
    """Its squares are no float32; and nothing in the box is farther than its diameter."""
    net, x, y = random_linear(16, 4, seed=0, n=12)
    model = toy(net, (16,), 4)
    whole = {"l2": 4.0, "linf": 1.0, "l1": 16.0}[norm]
    found, _ = run_leg(model, x, y, Threat(norm, (eps,)), name, iterations=10, restarts=3)
    expected, _ = run_leg(model, x, y, Threat(norm, (whole,)), name, iterations=10, restarts=3)
    assert torch.equal(found.distance, expected.distance)
    assert int(found.distance.isfinite().sum()) >= 6


def test_budgets_up_to_the_diameter_are_left_alone() -> None:
    threat = Threat("l2", (0.5, 2.0, 2.1, 1e39))
    problem = replace(first(threat), goal="minimize")
    assert problem.threat.eps == (0.5, 2.0)
    assert first(Threat("l2", (0.5, 2.0))).threat.eps == (0.5, 2.0)
    assert threat.eps == (0.5, 2.0, 2.1, 1e39)


def first(threat: Threat) -> Problem:
    """One image of four entries."""
    zero = torch.zeros(1, dtype=torch.int64)
    return Problem(torch.full((1, 4), 0.5), zero, zero, zero, torch.zeros(1), zero[:, None], threat, "decide", 0)
