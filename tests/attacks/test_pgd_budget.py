"""The bisection of pgd judges a hit as the verifier does: float32 may put a point just outside a small budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from robcert.attacks.pgd import PGD
from robcert.attacks.protocol import Problem
from robcert.types import Threat, ThreatNorm

ENTRIES = 4


def search(norm: ThreatNorm, eps: float, best: float) -> tuple[int, float]:
    """How many budgets are done, and the largest that failed, after three of ten iterations at ``eps``."""
    zeros = torch.zeros(1, dtype=torch.int64)
    problem = Problem(
        x=torch.full((1, ENTRIES), 0.9),
        y=zeros,
        index=zeros,
        restart=zeros,
        best=torch.tensor([best]),
        target_classes=zeros[:, None],
        threat=Threat(norm, (eps,)),
        goal="minimize",
        seed=0,
    )
    attack = PGD(iterations=10)
    state = replace(attack.init(problem), eps=torch.tensor([eps]), iteration=torch.tensor([3.0]))
    state = attack.phase(problem, state)
    return int(state.search_step), float(state.lower)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.1, 2.0])
def test_a_hit_that_rounding_moved_ends_the_search_step(norm: ThreatNorm, eps: float) -> None:
    threat = Threat(norm, (eps,))
    assert search(norm, eps, eps + 2.0**-25) == (1, 0.0), "an entry of the image has a grid of 2^-24"
    assert search(norm, eps, threat.with_tolerance(eps, (ENTRIES,)) * 1.001) == (0, 0.0), "too far to be meant"
    assert search(norm, eps, eps * 0.5) == (1, 0.0)
