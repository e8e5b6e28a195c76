"""Orthonormal matrices stay orthonormal, the loss is that of its formula, and the gap of the network is its radius."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robcert.certificates import certificates
from robcert.data import load_dataset
from robcert.errors import UsageError
from robcert.nn.orthogonal import MaxMin, orthogonal
from robcert.training import Recipe, fit
from robcert.training.context import TrainingContext
from robcert.training.objectives.certified_margin import CertifiedMargin
from robcert.training.stiefel_muon import StiefelMuon
from robcert.types import LoadedModel, Source

CPU = torch.device("cpu")


def off(weight: Tensor) -> float:
    """How far the rows, or the columns where they are fewer, are from orthonormal ones."""
    short = weight if weight.shape[0] <= weight.shape[1] else weight.T
    return float((short.double() @ short.double().T - torch.eye(len(short), dtype=torch.float64)).abs().max())


def loaded(net: nn.Module) -> LoadedModel:
    source = Source("memory", "memory", "memory", "0" * 64)
    return LoadedModel(net.eval().requires_grad_(False), "net", (1, 8, 8), 10, (0.0, 1.0), source)


@given(seed=st.integers(0, 2**16), shape=st.sampled_from([(5, 9), (9, 5), (6, 6), (1, 4)]), lr=st.floats(1e-3, 0.15))
@settings(max_examples=20, deadline=None)
def test_steps_stay_near_the_manifold_and_the_end_is_on_it(seed: int, shape: tuple[int, int], lr: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = nn.Parameter(nn.init.orthogonal_(torch.empty(shape), generator=generator))
    start, towards = weight.detach().clone(), torch.randn(shape, generator=generator)
    optimiser = StiefelMuon([weight], lr=lr)
    for _ in range(30):
        optimiser.zero_grad()
        (weight * towards).sum().neg().backward()
        optimiser.step()
        assert off(weight.detach()) < 0.1
    optimiser.finish()
    assert off(weight.detach()) < 1e-5
    assert float((weight.detach() * towards).sum()) > float((start * towards).sum()) - 1e-4


def test_the_step_goes_to_the_closest_orthonormal_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = nn.init.orthogonal_(torch.empty(12, 6), generator=generator)
    weight = nn.Parameter(nn.init.orthogonal_(torch.empty(12, 6), generator=generator))
    optimiser = StiefelMuon([weight], lr=0.1)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimiser.zero_grad()
        (weight - wanted).square().sum().backward()
        optimiser.step()
    optimiser.finish()
    assert torch.allclose(weight.detach(), wanted, atol=0.02)


def test_maxmin_keeps_lengths_and_does_not_stretch_distances() -> None:
    x, y = torch.randn(2, 200, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer = MaxMin()
    for p in (1, 2, math.inf):
        assert torch.allclose(layer(x).norm(p, dim=1), x.norm(p, dim=1))
        assert bool(((layer(x) - layer(y)).norm(p, dim=1) <= (x - y).norm(p, dim=1) + 1e-12).all())


def test_the_loss_is_its_formula() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 0.5, 3.0]])
    table = CertifiedMargin(slope=2.0, offset=0.7, temperature=0.5, weight=0.9, radius=0.4, width=0.2)
    generator = torch.Generator()
    objective = table.build(TrainingContext(3, 1, (0.0, 1.0), CPU, generator, (3,)))
    found = objective.loss(nn.Identity(), logits, torch.tensor([0, 1]))
    expected = []
    for row, y in ((logits[0], 0), (logits[1], 1)):
        radii = [float(row[y] - row[j]) / 2 for j in range(3) if j != y]
        first = 0.9 * 0.5 * math.log1p(sum(math.exp((0.7 - r) / 0.5) for r in radii))
        expected.append(first + 1 / (1 + math.exp(-(0.4 - min(radii)) / 0.2)))
    assert float(found) == pytest.approx(sum(expected) / 2, rel=1e-6)
    without = CertifiedMargin(weight=0.0, radius=0.0).build(TrainingContext(3, 1, (0.0, 1.0), CPU, generator, (3,)))
    assert float(without.loss(nn.Identity(), logits, torch.tensor([0, 1]))) == 0


@pytest.mark.parametrize("bias", [False, True])
def test_a_trained_network_has_the_radius_of_its_gap(bias: bool) -> None:
    train, test = load_dataset("digits", split="train", n=600), load_dataset("digits", n=50)
    recipe = Recipe.model_validate(
        {
            "name": "certified",
            "epochs": 8,
            "batch": 64,
            "threads": 1,
            "architecture": {"name": "orthogonal", "options": {"hidden": [32, 32], "bias": bias}},
            "objective": {"name": "certified_margin", "offset": 0.6, "radius": 0.5, "width": 0.1, "temperature": 0.1},
            "optimiser": {"name": "stiefel-muon", "learning_rate": 0.1, "schedule": "cosine", "rise": 0.1},
        }
    )
    net = fit(recipe, train, test, device=CPU)
    assert all(off(parameter.detach()) < 1e-5 for parameter in net.parameters() if parameter.dim() == 2)
    biases = [parameter for parameter in net.parameters() if parameter.dim() == 1]
    assert [bool(one.any()) for one in biases] == [True] * (3 * bias)
    found = certificates.get("gap")(loaded(net), test.x, test.y, "l2")
    right = found.prediction == test.y
    assert int(right.sum()) >= 40
    slope = (found.gap / found.radius_real)[right & (found.radius_real > 0)]
    assert bool((slope >= math.sqrt(2) * (1 - 1e-6)).all())
    assert bool((slope <= math.sqrt(2) * (1 + 1e-3)).all()), "the pairs of MaxMin are seen to keep distances"
    assert float((found.radius > 0.3).double().mean()) > 0.4


def test_a_matrix_that_is_not_orthonormal_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\(3, 5\) whose rows are not orthonormal"):
        StiefelMuon([nn.Parameter(torch.ones(3, 5))])


def test_an_odd_layer_is_refused() -> None:
    with pytest.raises(UsageError, match="MaxMin pairs neurons"):
        orthogonal((1, 8, 8), 10, hidden=(7,))
