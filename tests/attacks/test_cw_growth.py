"""How far cw takes its constant on an image that nothing breaks, and that linf has one failure to decide."""

from __future__ import annotations

import pytest
import torch
from toys import exact_distance, random_linear, run_leg, toy

from robcert.attacks.common.tanh_space import next_weight, step_on, tens
from robcert.types import LoadedModel, Threat


def unbreakable(scale: float) -> tuple[LoadedModel, torch.Tensor, torch.Tensor]:
    """A linear network with a slope, whose answer is the first class in all of the box."""
    net, x, _ = random_linear(16, 3, seed=1, n=4)
    with torch.no_grad():
        net.bias.data[0] += 100
        for part in net.parameters():
            part *= scale
    return toy(net, (16,), 3), x, torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("name", ["cw", "cw-t", "cw-original", "evasive-cw"])
def test_an_image_that_nothing_breaks_stays_finite(name: str, scale: float) -> None:
    """Its constant, ten times larger after each of 60 search steps, would be no float32, and nor would the point."""
    model, x, y = unbreakable(scale)
    found, leg = run_leg(model, x, y, Threat("l2", (0.5,)), name, iterations=10, search_steps=60)
    assert not bool(found.distance.isfinite().any())
    assert not leg.non_finite
    if name in ("cw", "cw-t"):
        assert leg.spent.backwards <= 4 * 17 * 10 + 4, "all but the last that repeat the 16th are left out"


def test_the_default_search_steps_are_all_spent() -> None:
    model, x, y = unbreakable(1.0)
    _, leg = run_leg(model, x, y, Threat("l2", (0.5,)), "cw", iterations=10, abort_early=False)
    assert leg.spent.backwards == 4 * 9 * 10


def test_tens() -> None:
    weight = torch.tensor([1.0, 1.0, 5e29, 1e30, 3e38])
    grown = tens(weight, torch.tensor([14, 15, 0, 0, 0])).tolist()
    assert grown == pytest.approx([10.0, 1.0, 1e30, 1e30, 3e38])
    zero, infinite = torch.zeros(5), torch.full((5,), float("inf"))
    assert next_weight(weight, zero, infinite, torch.tensor([14, 15, 0, 0, 0])).tolist() == grown


def test_search_steps_that_would_repeat_are_left_out() -> None:
    spent, ended = torch.tensor([3, 3, 3, 8]), torch.tensor([False, True, True, True])
    stuck = torch.tensor([False, False, True, True])
    assert step_on(spent, ended, stuck, 9).tolist() == [3, 4, 8, 9]


def test_linf_decides_with_its_first_failure() -> None:
    net, x, y = random_linear(16, 3, seed=2, n=20)
    eps = float(exact_distance(net, x, y, "linf").median())
    threat = Threat("linf", (eps,))
    runs = [run_leg(toy(net, (16,), 3), x, y, threat, "cw", iterations=20, search_steps=steps) for steps in (1, 9)]
    assert torch.equal(runs[0][0].distance, runs[1][0].distance)
    assert runs[0][1].spent.backwards == runs[1][1].spent.backwards
    assert not bool((runs[0][0].distance <= eps).all())
