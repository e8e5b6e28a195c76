"""apgd: what it goes back to, and the change of objective half way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from toys import WIDE, oracle_over

from robcert.attacks.apgd import APGD
from robcert.attacks.protocol import Problem
from robcert.attacks.targeted import TargetedAPGD
from robcert.criteria.misclassified import margin
from robcert.types import Threat, ThreatNorm


def problem_over(x: Tensor, y: Tensor, restart: int, norm: ThreatNorm, classes: int = 10) -> Problem:
    n = len(y)
    rivals = torch.stack([torch.tensor([k for k in range(classes) if k != int(label)]) for label in y])
    return Problem(
        x=x,
        y=y,
        index=torch.arange(n),
        restart=torch.full((n,), restart),
        best=torch.full((n,), float("inf")),
        target_classes=rivals,
        threat=Threat(norm, (1e-3,), WIDE),
        goal="decide",
        seed=0,
    )


def network() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 10)).eval().requires_grad_(False)
    x = torch.rand(8, 16)
    return net, x, net(x).argmax(dim=1)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize(("attack", "restart"), [(APGD, 0), (APGD, 1), (TargetedAPGD, 0), (TargetedAPGD, 1)])
def test_the_best_margin_is_the_best_of_the_margins(attack: type[APGD], restart: int, norm: ThreatNorm) -> None:
    """Cross-entropy is never negative and these margins are: a best value of the first half must not stand."""
    net, x, y = network()
    problem = problem_over(x, y, restart, norm)
    climb = attack(iterations=20, objective="alternate")
    oracle, state = oracle_over(net, problem, 2.0**-20), climb.init(problem)
    for _ in range(20):
        state = climb.step(oracle, problem, state)
    assert bool((state.value < 0).all()), "the ball is too small to fool anything"
    logits = net(x + state.top)
    values = margin(logits, y)
    if climb.targeted:
        target = problem.target_classes[:, restart]
        values = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
    assert torch.allclose(state.value, values, atol=1e-5)
    assert bool((state.last <= state.value).all())


def test_alternate_is_margin_where_the_objective_does_not_change() -> None:
    net, x, y = network()
    problem = problem_over(x, y, 1, "l2")
    ends: list[Tensor] = []
    for objective in ("alternate", "margin"):
        climb = APGD(iterations=20, objective=objective)
        oracle, state = oracle_over(net, problem, 2.0**-20), climb.init(problem)
        for _ in range(20):
            state = climb.step(oracle, problem, state)
        ends.append(state.delta)
    assert torch.equal(ends[0], ends[1])


def test_sparse_steps_go_back_only_where_they_begin_anew() -> None:
    """At a checkpoint: one image whose number of entries has settled, one where it has not, and one that waits."""
    _, x, y = network()
    problem = problem_over(x[:3], y[:3], 0, "l1")
    climb = APGD(iterations=100)
    top = torch.zeros(3, 16)
    top[:, :8] = 1e-4  # half of the entries
    state = replace(
        climb.init(problem),
        top=top,
        keep=torch.tensor([0.5 / 1.5, 0.5, 0.5]),
        step=torch.full((3,), 0.6),
        iteration=torch.tensor([4.0, 4.0, 3.0]),
    )
    looked, back = climb._look(problem, state)  # pyright: ignore[reportPrivateUsage]
    assert back.tolist() == [False, True, False]
    assert looked.step.tolist() == pytest.approx([0.4, 1.0, 0.6])
    assert looked.keep.tolist() == pytest.approx([1 / 3, 1 / 3, 0.5])
    assert looked.checkpoint.tolist() == [8.0, 8.0, 4.0]
