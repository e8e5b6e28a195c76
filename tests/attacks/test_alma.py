"""alma with two classes: no third logit says what the scale of the margin is."""

from __future__ import annotations

import pytest
import torch
from toys import WIDE, exact_distance, random_linear, run_leg, toy

from robcert.attacks.alma import relative
from robcert.types import Goal, Threat


@pytest.mark.parametrize("goal", ["decide", "minimize"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_scale_of_the_logits_does_not_matter(classes: int, goal: Goal) -> None:
    """Powers of two multiply float32 without rounding; the closest examples are the same to rounding."""
    found: list[torch.Tensor] = []
    for power in (-60, -14, 0, 14, 60):
        net, x, y = random_linear(64, classes, seed=5, n=30)
        exact = exact_distance(net, x, y, "l2")
        with torch.no_grad():
            for part in net.parameters():
                part *= 2.0**power
        threat = Threat("l2", (1.01 * float(exact.median()),), WIDE)
        bracket, _ = run_leg(toy(net, (64,), classes, WIDE), x, y, threat, "alma", goal, 200, restarts=2)
        found.append(bracket.distance)
    for other in found:
        assert torch.allclose(other, found[2], rtol=1e-4)
    if goal == "minimize":
        assert float((found[0] / exact).median()) <= 1.05


def test_a_margin_is_relative_to_the_largest_so_far() -> None:
    value = torch.tensor([-2.0, 1.0, float("nan"), 0.0])
    slope = torch.ones(4, 2)
    now, scaled, spread = relative(value, slope, torch.tensor([0.0, 4.0, 2.0, 0.0]))
    assert spread.tolist() == [2.0, 4.0, 2.0, 0.0]
    assert now[[0, 1, 3]].tolist() == [-1.0, 0.25, 0.0]
    assert scaled[:, 0].tolist() == [0.5, 0.25, 0.5, 1.0]
