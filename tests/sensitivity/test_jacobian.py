"""Gradients over a data set stay below the graph's bound; vulnerability is exact where it can be."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from toys import exact_distance, random_linear

from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.data import load_dataset
from robcert.errors import EvaluationError
from robcert.network import from_module, load_model, zoo_names
from robcert.sensitivity import jacobian as module
from robcert.sensitivity.gradients import STATISTICS
from robcert.sensitivity.jacobian import Sensitivity, Upper, sensitivity
from robcert.sensitivity.vulnerability import LEAST_LOSS, by_loss, by_margin, rank_correlation
from robcert.types import BOUND_NORMS, BoundNorm, Dataset

DIGITS = [name for name in zoo_names() if name.startswith("digits")]


def images(x: Tensor, y: Tensor) -> Dataset:
    return Dataset("toy", "test", x, y, torch.arange(len(y)), tuple("0123456789"))


@pytest.mark.parametrize("norm", BOUND_NORMS)
@pytest.mark.parametrize("name", DIGITS)
def test_the_zoo_stays_below_the_bound_of_its_graph(name: str, norm: BoundNorm) -> None:
    """On test images, and at random points of the box, where gradients are steeper."""
    model, data = load_model(name), load_dataset("digits", n=100)
    torch.manual_seed(0)
    noise = dataclasses.replace(data, x=torch.rand_like(data.x))
    bound = graph_bound(model).bounds[norm]
    for some in (data, noise):
        found = sensitivity(model, some, norm)
        assert found.precision == "float64"
        assert 0 < found.largest("operator") <= bound.whole
        assert 0 < found.largest("row-dual") <= float(bound.logits.max())
        pairs = torch.stack(
            [bound.pair_row(int(a))[int(b)] for a, b in zip(found.values["label"], found.values["other"], strict=True)]
        )
        assert bool((found.values["margin-dual"] <= pairs).all())
        assert found.upper == Upper(
            bound.whole, found.largest("operator"), float(bound.logits.max()), found.largest("row-dual")
        )


@pytest.mark.slow
@pytest.mark.parametrize("norm", BOUND_NORMS)
@pytest.mark.parametrize("name", [name for name in zoo_names() if name.startswith("mnist")])
def test_the_rest_of_the_zoo_stays_below_the_bound_of_its_graph(name: str, norm: BoundNorm) -> None:
    """On noise too, which needs no data: gradients are measured wherever the bound has to hold."""
    model = load_model(name)
    torch.manual_seed(0)
    x = torch.rand(200, *model.input_shape)
    # From noise to nearly black images: paler noise crosses other faces of the network.
    x = x * torch.linspace(0.05, 1, 200).view(-1, 1, 1, 1)
    found = sensitivity(model, images(x, torch.arange(200) % 10), norm)
    bound = graph_bound(model).bounds[norm]
    assert 0 < found.largest("operator") <= bound.whole
    assert 0 < found.largest("row-dual") <= float(bound.logits.max())


def test_a_gradient_beyond_the_bound_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.lipschitz_bound

    def halved(model: object, norm: BoundNorm) -> object:
        bound = real(model, norm)  # type: ignore[arg-type]
        return dataclasses.replace(bound, whole=bound.whole / 100)

    monkeypatch.setattr(module, "lipschitz_bound", halved)
    with pytest.raises(EvaluationError, match="exceeds the l2 bound"):
        sensitivity(load_model("digits-l2nnn"), load_dataset("digits", n=10))


def test_adversarial_training_and_the_nonexpansive_network_have_smaller_jacobians() -> None:
    data = load_dataset("digits")
    plain, trained, nonexpansive = (
        sensitivity(load_model(f"digits-{name}"), data) for name in ("plain", "at", "l2nnn")
    )
    for name in ("spectral", "frobenius", "row", "margin", "probability"):
        assert trained.mean(name) < plain.mean(name)
        assert nonexpansive.mean(name) < plain.mean(name)
    assert nonexpansive.largest("row") <= 1 + 1e-6, "every logit of an L2NNN is nonexpansive"


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.flatten(1).sum(1).sqrt(), x.flatten(1).mean(1)], dim=1)


def test_an_infinite_gradient_names_the_image() -> None:
    model = from_module(Root(), (4,), 2)
    with pytest.raises(EvaluationError, match="NaN or infinite at 1 of 3 images .index 1."):
        sensitivity(model, images(torch.tensor([[0.5] * 4, [0.0] * 4, [1.0] * 4]), torch.tensor([0, 1, 0])))


@pytest.mark.parametrize("norm", BOUND_NORMS)
@pytest.mark.parametrize("n", [1, 300])
def test_a_network_that_is_nan_names_the_first_image(norm: BoundNorm, n: int) -> None:
    """Of whole batches and of parts of them: LAPACK gives up on NaN, and that is no message."""
    model = from_module(nn.Linear(4, 3), (4,), 3)
    with torch.no_grad():  # after from_module has checked it
        next(model.module.parameters())[1, 2] = float("nan")
    with pytest.raises(EvaluationError, match=rf"NaN or infinite at {n} of {n} images .index 0."):
        sensitivity(model, images(torch.rand(n, 4), torch.zeros(n, dtype=torch.int64)), norm)


class Half(nn.Module):
    """NaN where the first entry is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([(x[:, 0] - 1e-9).sqrt(), x.sum(1), x[:, 1]], dim=1)


def test_only_the_images_that_are_nan_are_counted() -> None:
    x = torch.full((300, 4), 0.9)
    x[[7, 200, 299], 0] = 0.0
    with pytest.raises(EvaluationError, match=r"NaN or infinite at 3 of 300 images .index 7."):
        sensitivity(from_module(Half(), (4,), 3), images(x, torch.zeros(300, dtype=torch.int64)))


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.special.i0(x).sum(1), x.sum(1)], dim=1)


def test_an_op_without_a_rule_leaves_the_bound_open() -> None:
    found = sensitivity(from_module(Odd(), (4,), 2), images(torch.rand(3, 4), torch.tensor([0, 1, 0])))
    assert found.upper.refused
    assert found.upper.whole == float("inf")


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_the_estimate_from_the_margin_is_exact_on_linear_models(norm: BoundNorm) -> None:
    net, x, y = random_linear(30, 2, 5)
    found = sensitivity(from_module(net, (30,), 2), images(x, y), norm)
    torch.testing.assert_close(by_margin(found), exact_distance(net, x, y, norm), rtol=1e-6, atol=0)


def test_the_estimate_from_the_loss_is_eq_3_7() -> None:
    """On a linear model of two classes: loss = log(1 + e^-g), its gradient (1 - p) w, with the gap g."""
    net, x, y = random_linear(30, 2, 6)
    weight = (net.weight[0] - net.weight[1]).detach().double()
    gap = exact_distance(net, x, y, "l2") * weight.norm()
    found = sensitivity(from_module(net, (30,), 2), images(x, y))
    loss = torch.log1p(torch.exp(-gap))
    expected = (LEAST_LOSS - loss) / (torch.sigmoid(-gap) * weight.norm())
    torch.testing.assert_close(by_loss(found), expected, rtol=1e-6, atol=0)
    wrong = sensitivity(from_module(net, (30,), 2), images(x, 1 - y))
    assert torch.equal(by_loss(wrong), torch.zeros(len(y), dtype=torch.float64)), "misclassified: distance 0"
    assert torch.equal(by_margin(wrong), torch.zeros(len(y), dtype=torch.float64))


def test_rank_correlation() -> None:
    inf = float("inf")
    rising = torch.tensor([0.1, 0.2, 0.5, inf])
    assert rank_correlation(rising, torch.tensor([0.0, 1.0, 4.0, inf])) == pytest.approx(1)
    assert rank_correlation(rising, torch.tensor([inf, 4.0, 1.0, 0.0])) == pytest.approx(-1)
    assert rank_correlation(rising, torch.ones(4)) is None
    assert rank_correlation(rising[:2], rising[:2]) is None


def test_means_and_maxima_are_over_all_images() -> None:
    model, data = load_model("digits-plain"), load_dataset("digits", n=150)
    found: Sensitivity = sensitivity(model, data)
    for name in STATISTICS:
        values = found.values[name]
        assert values.shape == (150,)
        assert (found.mean(name), found.largest(name)) == (float(values.mean()), float(values.max()))
