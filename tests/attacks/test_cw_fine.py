"""When cw asks for the precision of the network itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from robcert.attacks.cw import CW
from robcert.attacks.protocol import Problem
from robcert.types import Goal, Threat

BEST = torch.tensor([-1.0, 1.9, 2.05, 2.2, float("inf")])
"""An idle slot; then images with their closest example inside the budget of 2, just outside, farther, and with none."""


def fine(goal: Goal, search_step: int, steps: int = 9) -> list[bool]:
    count = len(BEST)
    zeros = torch.zeros(count, dtype=torch.int64)
    problem = Problem(
        x=torch.full((count, 4), 0.5),
        y=zeros,
        index=zeros,
        restart=zeros,
        best=BEST,
        target_classes=zeros[:, None],
        threat=Threat("l2", (2.0,)),
        goal=goal,
        seed=0,
    )
    attack = CW(iterations=10, search_steps=steps)
    return attack.needs_float32(problem, replace(attack.init(problem), search_step=zeros + search_step)).tolist()


@pytest.mark.parametrize("goal", ["decide", "minimize"])
def test_the_last_constant_of_every_image(goal: Goal) -> None:
    assert fine(goal, 8) == [True] * len(BEST)


def test_an_image_that_is_all_but_decided() -> None:
    """bfloat16 would choose its constants with doubt, and leave it just outside the budget."""
    assert fine("decide", 0) == [False, True, True, False, False]
    assert fine("minimize", 0) == [False] * len(BEST), "there is no budget to be close to"
