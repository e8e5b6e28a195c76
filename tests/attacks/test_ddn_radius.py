"""The radius of ddn can fall to a twentieth of the budget, however few the iterations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robcert.attacks.ddn import DDN
from robcert.attacks.protocol import Evaluation, Objective, Problem
from robcert.types import Threat


class Fooled:
    """An oracle whose network is fooled by every point."""

    on_host = True

    def value_and_grad(self, objective: Objective, x: Tensor) -> Evaluation:
        """Class 1, and a gradient that points somewhere."""
        logits = torch.stack([torch.zeros(len(x)), torch.ones(len(x))], dim=1)
        return Evaluation(logits, torch.ones(len(x)), torch.ones_like(x), torch.zeros(len(x)))


@pytest.mark.parametrize("iterations", [10, 20, 40, 100, 119, 120, 300])
def test_it_falls_to_a_twentieth(iterations: int) -> None:
    zeros = torch.zeros(4, dtype=torch.int64)
    problem = Problem(
        x=torch.full((4, 3), 0.5),
        y=zeros,
        index=zeros,
        restart=zeros,
        best=torch.full((4,), float("inf")),
        target_classes=zeros[:, None],
        threat=Threat("l2", (0.4,)),
        goal="minimize",
        seed=0,
    )
    attack = DDN(iterations=iterations)
    state = attack.init(problem)
    assert state.radius.tolist() == pytest.approx([0.4] * 4)
    for _ in range(iterations):
        state = attack.step(Fooled(), problem, state)  # type: ignore[arg-type]
    assert 0 < float(state.radius.max()) <= 0.4 / 20 * 1.1
