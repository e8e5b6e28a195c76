"""No step of any attack makes the host wait for a device: the condition under which steps can be recorded."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import pytest
import torch
from tape import HostRead, Refusing
from toys import REGISTERED, oracle_over

from robcert.attacks import attacks
from robcert.attacks.losses import losses
from robcert.attacks.protocol import Problem, Refining
from robcert.types import Goal, LoadedModel, Threat, ThreatNorm

GOALS: tuple[Goal, ...] = ("decide", "minimize")


def on_device(norm: ThreatNorm, goal: Goal, n: int = 8, classes: int = 10) -> Problem:
    """A problem on a device that has shapes but no values, so that the host cannot even by accident know one."""
    zeros = torch.zeros(n, dtype=torch.int64, device="meta")
    return Problem(
        x=torch.rand(n, 1, 8, 8, device="meta"), y=zeros, index=zeros.clone(), restart=zeros.clone(),
        best=torch.ones(n, device="meta"), target_classes=torch.zeros(n, classes - 1, dtype=torch.int64, device="meta"),
        threat=Threat(norm, (0.5,)), goal=goal, seed=0,
    )  # fmt: skip


@pytest.mark.drawn(2)
@pytest.mark.parametrize("coarse", [False, True], ids=["float32", "search"])
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize(("name", "norm"), REGISTERED)
def test_no_step_waits_for_a_device(plain: LoadedModel, name: str, norm: ThreatNorm, goal: Goal, coarse: bool) -> None:
    """Nothing is read, nothing moved from or to the host, and no shape follows values: in attack, oracle, objective."""
    kind: Any = attacks.get(name)
    module, search = (copy.deepcopy(plain.module).to("meta") for _ in range(2))
    search.margin_error = 0.1  # type: ignore[assignment]
    options = [{}]
    if "objective" in {f.name for f in fields(kind)}:
        options = [{"objective": objective} for objective in losses.names()]
    problem = on_device(norm, goal)
    for extra in options:
        attack = kind(iterations=20, **extra)
        state = attack.init(problem)
        oracle = oracle_over(module, problem, plain.rounding, search, guard=lambda x: x.flatten(1).sum(dim=1) > 0)
        with Refusing():
            oracle.forward.choose_all(coarse)
            after = attack.step(oracle, problem, state)
            if isinstance(attack, Refining):
                attack.needs_float32(problem, after, 10)
            if coarse:
                oracle.confirm()
        assert oracle.forwards + oracle.backwards >= attack.cost.forwards + attack.cost.backwards + coarse
        for f in fields(state):
            old, new = getattr(state, f.name), getattr(after, f.name)
            assert (old.shape, old.dtype, old.device) == (new.shape, new.dtype, new.device), f.name


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: bool((x > 0).any()),
        lambda x: x + torch.ones(8),
        lambda x: torch.where(x > 0, x, torch.ones(8)),
        lambda x: x[torch.arange(3)],
        lambda x: x.cpu(),
        lambda x: torch.ones(8).to(x.device),
        lambda x: x.clone().index_put_((x > 0,), x.new_zeros(())),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
    ],
)
def test_what_waits_is_refused(wait: Any) -> None:
    x = torch.rand(8, device="meta")
    with Refusing(), pytest.raises(HostRead):
        wait(x)


def test_a_tensor_of_python_numbers_is_refused() -> None:
    with Refusing(), pytest.raises(HostRead, match="copied to the device"):
        torch.tensor([1.0, 2.0])
