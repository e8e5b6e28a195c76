"""A domain without a rule for an operator refuses it by name, while the others work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import robcert
from robcert.bounds.linear.activations import Activation, Shape
from robcert.bounds.linear.rules import relaxations
from robcert.bounds.lipschitz.rules import rules
from robcert.bounds.lipschitz.rules.activations import elementwise
from robcert.bounds.rounding.entrywise import entrywise_rules
from robcert.bounds.rounding.rules import rounding_rules
from robcert.certificates import Certificates, Search, certificates
from robcert.errors import EvaluationError
from robcert.graph.batch import batch_rules
from robcert.graph.batch_rules.entrywise import entrywise
from robcert.network import from_module
from robcert.registry import Registry
from robcert.types import LoadedModel


class Erfc(nn.Module):
    """An operator that robcert does not know."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.erfc(x)


def network(activation: nn.Module) -> LoadedModel:
    torch.manual_seed(0)
    return from_module(nn.Sequential(nn.Flatten(), nn.Linear(9, 8), activation, nn.Linear(8, 3)), (1, 3, 3), 3)


def found(method: str, model: LoadedModel) -> Certificates:
    x = torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    y = model.module(x).argmax(1)
    return certificates.get(method)(model, x, y, "linf", Search(eps=(0.002,), largest=method != "bab", seconds=60.0))


def add(monkeypatch: pytest.MonkeyPatch, registry: Registry[Any], name: str, rule: Any) -> None:
    assert name not in registry
    monkeypatch.setitem(registry._entries, name, rule)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("method", ["gap", "ibp", "crown", "bab", "best"])
def test_without_a_rounding_rule_radii_in_real_arithmetic_stand(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(method, network(nn.ReLU()))
    assert whole.refused == "" and bool((whole.radius > 0).all())
    for table in (rounding_rules, entrywise_rules):
        assert "relu" in table
        monkeypatch.delitem(table._entries, "relu")  # pyright: ignore[reportPrivateUsage]
    real = found(method, network(nn.ReLU()))
    assert "rounding rule for the op relu" in real.refused
    assert not bool(real.radius.any())
    assert "rounding_float32" not in real.constants
    assert torch.allclose(real.radius_real, whole.radius_real, 0.03, 0)


def test_an_operator_with_a_lipschitz_rule_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, batch_rules, "special_erfc", entrywise)
    add(monkeypatch, rules, "special_erfc", lambda call: elementwise(call, call.x, -1.13, 0.0, row=True))
    model = network(Erfc())
    gap = found("gap", model)
    assert "rounding rule for the op special_erfc" in gap.refused
    assert bool((gap.radius_real > 0).all()) and not bool(gap.radius.any())
    assert "special_erfc" in [layer.op for layer in robcert.norms(model).models[0].layers]
    assert torch.equal(found("best", model).radius_real, gap.radius_real)
    for method in ("ibp", "crown-ibp", "crown", "alpha-crown", "bab"):
        with pytest.raises(EvaluationError, match="no linear relaxation for the op special_erfc"):
            found(method, model)


@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_an_operator_with_a_linear_rule_alone(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape(torch.special.erfc, lambda t: -1.1283791670955126 * torch.exp(-t * t), (0.0,), (-1, 1))
    add(monkeypatch, batch_rules, "special_erfc", entrywise)
    add(monkeypatch, relaxations, "special_erfc", lambda call: Activation(*call.head, shape))  # pyright: ignore[reportCallIssue]
    one = found(method, network(Erfc()))
    assert "rounding rule for the op special_erfc" in one.refused
    assert bool((one.radius_real > 0).all()) and not bool(one.radius.any())
    with pytest.raises(EvaluationError, match="no Lipschitz rule for the op special_erfc"):
        found("gap", network(Erfc()))
