"""Certificates by local Lipschitz constants: where the slope is known, beside `gap`, and in the ladder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robcert.certificates import Certificates, Search, certificates
from robcert.certificates.best import ladder
from robcert.data import load_dataset
from robcert.network import from_module, load_model
from robcert.types import BOUND_NORMS, BoundNorm, LoadedModel
from tests.certificates.attacked import small_network


def both(model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm) -> tuple[Certificates, Certificates]:
    search = Search(tolerance=0.001)
    return certificates.get("gap")(model, x, y, norm), certificates.get("local-gap")(model, x, y, norm, search)


class Cliff(nn.Module):
    """The margin is x_0 - 0.5, and from ``edge`` on 100 times as steep."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 2)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.tensor([[1.0, 0.0], [-99.0, 0.0]]))
            self.hidden.bias.copy_(torch.tensor([10.0, 99 * edge]))
            self.head.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.hidden(x))
        return self.head(hidden) - torch.tensor([10.5, 0.0])


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_a_neuron_that_cannot_switch_in_the_ball_costs_nothing(norm: BoundNorm) -> None:
    """The margin at 0.8 is 0.3 and reaches 0 at 0.5; the cliff below 0.4 is never met."""
    x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    gap, local = both(from_module(Cliff(0.4), (2,), 2), x, y, norm)
    assert float(gap.radius_real) < 0.3 / 99
    assert 0.3 * 0.99 < float(local.radius) <= float(local.radius_real) <= 0.3 + 1e-7
    assert local.binding == ("local",)


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_the_radius_ends_where_a_neuron_may_switch(norm: BoundNorm) -> None:
    """The margin at 0.8 is 0.3, but below 0.7 it falls by 100 a unit and is 0 at 0.698."""
    x, y = torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    _, local = both(from_module(Cliff(0.7), (2,), 2), x, y, norm)
    assert 0.1 * 0.98 < float(local.radius) <= 0.102


@pytest.mark.parametrize("norm", BOUND_NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_no_radius_is_below_that_of_gap(seed: int, norm: BoundNorm) -> None:
    module = small_network(seed)
    x = torch.rand(12, 8)
    gap, local = both(from_module(module, (8,), 4), x, module(x).argmax(1), norm)
    assert bool((local.radius >= gap.radius).all() and (local.radius_real >= gap.radius_real).all())
    assert bool((local.radius <= local.radius_real).all())
    assert bool((local.radius > gap.radius * 1.01).any())


def test_it_proves_more_than_gap_on_an_ordinary_network_and_nothing_more_on_a_nonexpansive_one() -> None:
    data = load_dataset("digits", n=20)
    gap, local = both(load_model("digits-plain"), data.x, data.y, "l2")
    assert float(local.radius.median()) > 1.1 * float(gap.radius.median())
    gap, local = both(load_model("digits-l2nnn"), data.x, data.y, "l2")
    assert bool((local.radius >= gap.radius).all())


def test_budgets_are_decided_without_the_largest_radius() -> None:
    model, data = load_model("digits-plain"), load_dataset("digits", n=10)
    _, largest = both(model, data.x, data.y, "l2")
    eps = float(largest.radius.median())
    decided = certificates.get("local-gap")(model, data.x, data.y, "l2", Search(eps=(eps * 0.99,), largest=False))
    assert torch.equal(decided.radius > eps * 0.99, largest.radius > eps * 0.99)
    hurried = certificates.get("local-gap")(model, data.x, data.y, "l2", Search(seconds=0.0))
    assert hurried.effort is not None and bool(hurried.effort.late.all())
    assert torch.equal(hurried.radius, certificates.get("gap")(model, data.x, data.y, "l2").radius)


def test_the_ladder_has_it_behind_gap_in_l2_alone() -> None:
    model = load_model("digits-plain")
    assert ladder(model, "l2", Search())[:2] == ["gap", "local-gap"]
    assert "local-gap" not in ladder(model, "linf", Search()) + ladder(model, "l1", Search())
