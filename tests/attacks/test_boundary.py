"""The boundary attack: exact distances from answers alone, and a start for every image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import WIDE, exact_distance, random_linear, run_leg, toy

from robcert.attacks.boundary import Boundary
from robcert.data import load_dataset
from robcert.errors import UsageError
from robcert.network import load_model
from robcert.runs.plan import LegPlan, build
from robcert.search.verifier import Verifier
from robcert.types import Threat


def check_linear(entries: int, classes: int, seed: int, n: int, iterations: int, restarts: int, most: float) -> None:
    net, x, y = random_linear(entries, classes, seed, n)
    model = toy(net, (entries,), classes, WIDE)
    exact = exact_distance(net, x, y, "l2")
    threat = Threat("l2", (float(exact.median()),), WIDE)
    found, leg = run_leg(model, x, y, threat, "boundary", "minimize", iterations, restarts)
    ratio = found.distance / exact
    assert leg.spent.backwards == 0, "no gradients"
    assert float(ratio.min()) >= 1 - model.rounding
    assert float(ratio.median()) <= 1.05
    assert float(ratio.max()) <= most


@pytest.mark.parametrize(("classes", "restarts"), [(2, 1), (10, 3)])
def test_linear_classifiers(classes: int, restarts: int) -> None:
    """Between ten faces a walk ends at the one it met first, so that takes restarts."""
    check_linear(64, classes, 100 + classes, 24, 1000, restarts, most=1.05)


@pytest.mark.slow
@pytest.mark.parametrize(("entries", "iterations"), [(64, 2000), (784, 12_000)])
def test_linear_classifiers_on_more_draws(entries: int, iterations: int) -> None:
    for seed in range(5):
        check_linear(entries, 2, 200 + seed, 40, iterations, 1, most=1.1)
    check_linear(entries, 10, 300, 40, iterations, 5, most=1.1)


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "restarts"), [(2, 1), (10, 5)])
def test_every_image_of_a_linear_classifier_with_the_default_iterations(classes: int, restarts: int) -> None:
    for seed in range(3):
        check_linear(64, classes, 400 + seed, 40, Boundary().iterations, restarts, most=1.05)


class Steps(nn.Module):
    """Answers by the sign of a linear function, in steps: the gradient is zero everywhere."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.linear = nn.Linear(entries, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).sign() + 0 * x.sum(dim=1, keepdim=True)


def test_it_needs_no_gradient() -> None:
    torch.manual_seed(4)
    net = Steps(32)
    x = torch.rand(12, 32)
    y = net(x).argmax(dim=1)
    model = toy(net, (32,), 2, WIDE)
    # sign() of two logits ties where both are positive or both negative: the answer is class 0 there.
    found, _ = run_leg(model, x, y, Threat("l2", (1.0,), WIDE), "boundary", "minimize", 300)
    blind, _ = run_leg(model, x, y, Threat("l2", (1.0,), WIDE), "pgd", "minimize", 20)
    assert bool((found.distance < blind.distance).any())


class Pole(nn.Module):
    """Class 1 only where almost every pixel is white: uniform noise is never taken for it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.full_like(x[:, 0], 0.9), x.mean(dim=1)], dim=1)


def test_a_start_that_uniform_noise_does_not_give() -> None:
    x = 0.3 * torch.rand(8, 100)
    model = toy(Pole(), (100,), 2)
    y = torch.zeros(8, dtype=torch.int64)
    found, _ = run_leg(model, x, y, Threat("l2", (1.0,)), "boundary", "minimize", 400)
    assert bool(found.distance.isfinite().all())


def test_examples_of_a_trained_network_pass_the_verifier() -> None:
    model, data = load_model("digits-plain"), load_dataset("digits", n=40)
    right = (model.module(data.x).argmax(dim=1) == data.y).nonzero().flatten()
    x, y = data.x[right], data.y[right]
    threat = Threat("l2", (0.5,))
    found, _ = run_leg(model, x, y, threat, "boundary", "minimize", 500)
    assert bool(found.distance.isfinite().all())
    verified = Verifier(model, threat, 128)(found.points(list(range(len(y)))), x, y)
    assert bool(verified.accepted.all())
    torch.testing.assert_close(verified.distance, found.distance, rtol=0, atol=0)
    gradient, _ = run_leg(model, x, y, threat, "pgd", "minimize", 20)
    assert 0.95 <= float((found.distance / gradient.distance).median()) <= 1.6


@pytest.mark.parametrize("options", [{"around": 0.0}, {"towards": 1.0}, {"around": float("nan")}])
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="a share between 0 and 1"):
        build(LegPlan("boundary", 10), "l2", {"boundary": options})
