"""Bounds of the distance of executed values from real ones, beside what float32 does at points of the region."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.bounds.linear.value_errors import difference_errors, value_errors
from robcert.bounds.rounding.logits import logits64, pair_rounding_near
from robcert.certificates.margins import pairs
from robcert.network import from_module
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.pooling import NormPool2d
from robcert.types import BOUND_NORMS, BoundNorm, LoadedModel

CLASSES = 5


def cancelling(layer: nn.Linear) -> nn.Linear:
    """Large weights of both signs, whose products all but cancel where inputs are alike."""
    with torch.no_grad():
        layer.weight[:, 1::2] = -layer.weight[:, ::2] * (1 + 0.01 * torch.randn_like(layer.weight[:, ::2]))
        layer.weight *= 30
    return layer


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.head((x + self.second(self.first(x).relu())) * 3 - 0.7)


def deep(activation: Callable[[], nn.Module], width: int = 30) -> nn.Module:
    layers = [cancelling(nn.Linear(64, width)), activation(), cancelling(nn.Linear(30, width)), activation()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(30, CLASSES))


def pooled(pool: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(96, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), cancelling(nn.Linear(64, CLASSES))),
    "relu": lambda: deep(nn.ReLU),
    "leaky relu": lambda: deep(lambda: nn.LeakyReLU(0.3)),
    "two-sided relu": lambda: deep(TwoSidedReLU, 15),
    "sigmoid": lambda: deep(nn.Sigmoid),
    "gelu": lambda: deep(nn.GELU),
    "softmax inside": lambda: deep(lambda: nn.Softmax(1)),
    "max pooling": lambda: pooled(nn.MaxPool2d(2)),
    "average pooling": lambda: pooled(nn.AvgPool2d(2)),
    "norm pooling": lambda: pooled(NormPool2d(2)),
    "residual": Residual,
}


def built(name: str) -> LoadedModel:
    torch.manual_seed(len(name))
    return from_module(NETWORKS[name]().eval(), (1, 8, 8), CLASSES, name=name)


def near(x: Tensor, eps: float, norm: BoundNorm) -> Tensor:
    """Points of the ball and the box."""
    step = torch.randn_like(x) if norm == "l2" else torch.rand_like(x) * 2 - 1
    order = {"l2": 2.0, "linf": torch.inf, "l1": 1.0}[norm]
    length = torch.linalg.vector_norm(step.flatten(1), order, dim=1).view(-1, 1, 1, 1)
    return (x + step / length * eps * 0.999).clamp(0, 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_float32_does_is_within_the_bounds(name: str) -> None:
    model, network = built(name), program(built(name))
    x = torch.rand(6, 1, 8, 8)
    for norm in BOUND_NORMS:
        for eps in (1e-3, 0.3):
            found = relax(network, region(x, torch.full((6,), eps), norm, model.box), "ibp")
            errors = value_errors(found)
            rows = pairs(torch.arange(6) % CLASSES, CLASSES)
            both = difference_errors(found, rows, errors)
            assert bool(torch.isfinite(both).all())
            for _ in range(4):
                points = near(x, eps, norm)
                with torch.no_grad():
                    off = model.module(points).double() - logits64(model, points)
                slack = 1e-12
                assert bool((off.abs() <= errors[network.logits] + slack).all())
                assert bool(((rows @ off.unsqueeze(2)).squeeze(2).abs() <= both + slack).all())


@pytest.mark.parametrize("name", ["linear", "relu", "average pooling"])
def test_without_what_layers_round_the_bounds_do_not_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robcert.bounds.linear.backward.Relaxation.executed", lambda self, step, given, exact: exact)
    with pytest.raises(AssertionError):
        test_what_float32_does_is_within_the_bounds(name)


@pytest.mark.parametrize("name", ["relu", "max pooling", "residual"])
def test_in_a_small_ball_they_are_far_below_those_from_norms(name: str) -> None:
    model, network = built(name), program(built(name))
    x = torch.rand(6, 1, 8, 8)
    found = relax(network, region(x, torch.full((6,), 1e-5), "linf", model.box), "ibp")
    errors = value_errors(found)
    both = difference_errors(found, pairs(torch.zeros(6, dtype=torch.int64), CLASSES), errors).amax(1)
    forwards = 2 * errors[network.logits].amax(1)
    norms = pair_rounding_near(model, x, torch.full((6,), 1e-4, dtype=torch.float64))
    assert bool((both < norms / 4).all())
    assert bool((both < forwards).all())


def test_they_do_not_depend_on_images_beside() -> None:
    model, network = built("max pooling"), program(built("max pooling"))
    x, rows = torch.rand(4, 1, 8, 8), pairs(torch.arange(4), CLASSES)

    def bounded(part: slice) -> Tensor:
        eps = torch.full((4,), 1e-2)[part]
        found = relax(network, region(x[part], eps, "l2", model.box), "ibp")
        return difference_errors(found, rows[part], value_errors(found))

    alone = torch.cat([bounded(slice(k, k + 1)) for k in range(4)])
    assert torch.allclose(alone, bounded(slice(None)), rtol=1e-5, atol=0)
