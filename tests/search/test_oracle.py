"""The oracle's rows of the Jacobian, and what it counts."""

from __future__ import annotations

import torch
import toys
from torch import nn
from torch.func import jacrev, vmap

from robcert.attacks.protocol import Problem
from robcert.search.expectation import Averaged
from robcert.search.oracle import ModelOracle
from robcert.types import Threat


def oracle_over(module: nn.Module, x: torch.Tensor) -> ModelOracle:
    n = len(x)
    problem = Problem(
        x=x,
        y=torch.zeros(n, dtype=torch.int64),
        index=torch.arange(n),
        restart=torch.zeros(n, dtype=torch.int64),
        best=torch.full((n,), float("inf")),
        target_classes=torch.zeros(n, 4, dtype=torch.int64),
        threat=Threat("l2", (1.0,)),
        goal="minimize",
        seed=0,
    )
    return toys.oracle_over(module, problem)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 5)).requires_grad_(False)


def test_rows_of_the_jacobian() -> None:
    net, x = network(), torch.rand(6, 3, 2, 2)
    rows = torch.randint(0, 5, (6, 3))
    oracle = oracle_over(net, x)
    found = oracle.gradients(rows, x)
    whole = vmap(jacrev(lambda one: net(one[None])[0]))(x)
    expected = torch.stack([whole[k, rows[k]] for k in range(6)])
    assert torch.allclose(found.gradients, expected, atol=1e-6)
    assert torch.allclose(found.logits, net(x), atol=1e-6)
    assert (oracle.forwards, oracle.backwards) == (1, 3)
    assert oracle.evaluations.tolist() == [1] * 6
    wrong = net(x).argmax(dim=1) != 0
    assert torch.equal(oracle.problem.best == 0, wrong), "what it sees it notes"


def test_rows_that_are_zero_or_not_finite_are_counted() -> None:
    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flat = x.flatten(1)
            return torch.stack([flat.sum(1) * 0, torch.sqrt(flat[:, 0]), flat.sum(1)], dim=1)

    x = torch.tensor([[0.0, 0.3, 0.2, 0.1], [0.5, 0.3, 0.2, 0.1]])  # the root has no slope at 0
    oracle = oracle_over(Half(), x)
    found = oracle.gradients(torch.tensor([[0, 1], [0, 2]]), x)
    assert bool(found.gradients.isfinite().all())
    assert oracle.non_finite.tolist() == [1, 0]
    oracle = oracle_over(Half(), x)
    oracle.gradients(torch.tensor([[0, 2], [0, 0]]), x)
    assert oracle.zero_gradients.tolist() == [0, 1]


def test_draws_are_averaged_and_counted() -> None:
    net, x = network(), torch.rand(4, 3, 2, 2)
    oracle = oracle_over(Averaged(net, 5), x)
    assert torch.allclose(oracle.logits(x), net(x), atol=1e-6)
    oracle.gradients(torch.zeros(4, 2, dtype=torch.int64), x)
    assert (oracle.forwards, oracle.backwards) == (10, 10)
