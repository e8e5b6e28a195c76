"""The models that ship: as good as promised, and their pages and cards say what they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from robcert.bounds.lipschitz.network_bound import lipschitz_bound
from robcert.certificates import Search, certificates
from robcert.data import load_dataset
from robcert.network import Card, load_model
from robcert.network.card import read_toml
from robcert.nn.bounds import copies
from robcert.nn.heads import Heads
from robcert.training import Recipe, measure, read_recipe
from robcert.training.measure import Measured
from robcert.training.run import results_page
from robcert.types import BoundNorm, Dataset

ZOO = Path(__file__).resolve().parents[2] / "models"
NAMES = sorted(path.parent.name for path in ZOO.glob("*/weights.safetensors"))
ACCURACY = {
    "digits-plain": 0.97,
    "digits-at": 0.97,
    "digits-l2nnn": 0.94,
    "mnist-plain": 0.99,
    "mnist-at": 0.975,
    "mnist-l2at": 0.97,
    "mnist-l2nnn": 0.975,
    "mnist-l2nnn-at": 0.97,
    "mnist-l2nnn-resnet": 0.97,
    "mnist-l2-certified": 0.97,
    "mnist-ibp-01": 0.97,
    "mnist-ibp-03": 0.96,
}
CERTIFIED: dict[str, tuple[str, BoundNorm, float, float]] = {
    "mnist-l2-certified": ("gap", "l2", 1.58, 0.7197),
    "mnist-ibp-01": ("ibp", "linf", 0.1, 0.9687),
    "mnist-ibp-03": ("ibp", "linf", 0.3, 0.8835),
}
"""Method, norm, eps and the share of all test images that is certified."""
L2NNNS = ("digits-l2nnn", "mnist-l2nnn", "mnist-l2nnn-at")
CPU = torch.device("cpu")


def data_dir() -> Path | None:
    """The folder that holds MNIST, or None."""
    folder = Path(os.environ.get("ROBCERT_DATA", ""))
    return folder if (folder / "MNIST" / "raw").is_dir() else None


def images_of(name: str, n: int | None) -> Dataset:
    """The test images of a model: all 500 digits, or ``n`` of MNIST's 10,000 where they are."""
    card = read_toml(ZOO / name / "model.toml")
    if card.data == "digits":
        return load_dataset("digits")
    if data_dir() is None:
        pytest.skip("MNIST is not here: the cases of the digits models have run")
    return load_dataset("mnist", n=n, data_dir=data_dir())


def measured(name: str, n: int | None) -> tuple[Card, Measured]:
    return read_toml(ZOO / name / "model.toml"), measure(load_model(ZOO / name).module, images_of(name, n), CPU)


def test_all_are_there() -> None:
    assert set(ACCURACY) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_recipe_page_and_weights_belong_together(name: str) -> None:
    card = read_toml(ZOO / name / "model.toml")
    assert (ZOO / name / "weights.safetensors").stat().st_size < 5_000_000
    assert Recipe.model_validate(card.recipe) == read_recipe(ZOO / name), "trained by another recipe"
    assert (ZOO / name / "RESULTS.md").read_text() == results_page(card)
    assert load_model(ZOO / name).card == load_model(ZOO / name / "weights.safetensors").card


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_and_gaps(name: str) -> None:
    """On 1,000 images of MNIST, within four standard deviations of what the card says of all 10,000."""
    card, seen = measured(name, 1000)
    n, share = len(seen.correct), card.results["natural_accuracy"]
    whole = n == card.results["test_images"]
    spread = 0.0 if whole else 4 * (share * (1 - share) / n) ** 0.5
    assert share >= ACCURACY[name]
    assert seen.accuracy == pytest.approx(share, abs=1e-6 + spread)
    assert seen.mean_gap == pytest.approx(card.results["mean_gap"], rel=1e-4 if whole else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_and_gaps_on_all_images(name: str) -> None:
    card, seen = measured(name, None)
    assert len(seen.correct) == card.results["test_images"]
    assert seen.accuracy >= ACCURACY[name]
    # Another processor rounds otherwise: an image in ten thousand may change sides.
    assert seen.accuracy == pytest.approx(card.results["natural_accuracy"], abs=2e-4)
    assert seen.mean_gap == pytest.approx(card.results["mean_gap"], rel=1e-4)


@pytest.mark.parametrize("name", CERTIFIED)
def test_what_was_trained_for_certificates_has_them(name: str) -> None:
    """On 300 images, within four standard deviations of the share of all 10,000."""
    method, norm, eps, share = CERTIFIED[name]
    data = images_of(name, 300)
    found = certificates.get(method)(load_model(ZOO / name), data.x, data.y, norm, Search(eps=(eps,), largest=False))
    seen = float((found.radius > eps).double().mean())
    assert seen == pytest.approx(share, abs=4 * (share * (1 - share) / len(data)) ** 0.5)


def test_the_small_l2nnn_is_sure() -> None:
    _, seen = measured("digits-l2nnn", None)
    assert seen.certified(0.1) >= 0.8
    assert seen.certified(0.25) >= 0.5


@pytest.mark.parametrize("name", L2NNNS)
def test_l2nnns_are_nonexpansive_layer_by_layer_and_as_a_whole(name: str) -> None:
    model = load_model(ZOO / name)
    layers = [layer for layer in model.module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    options = read_toml(ZOO / name / "model.toml").options
    hidden, own = (cast("list[int]", options.get(key, [])) for key in ("hidden", "label_hidden"))
    assert len(layers) == 1 + len(hidden) + (10 * (1 + len(own)) if own else 1)
    for layer in layers:
        weight = layer.weight.detach().double()
        if isinstance(layer, Heads):
            bound = float(weight.square().sum(1).max())
        else:
            copied = copies(layer.kernel_size, layer.stride) if isinstance(layer, nn.Conv2d) else 1
            bound = copied * float(torch.linalg.matrix_norm(weight.flatten(1), 2)) ** 2
        # The weights are float32: one rounding each.
        assert bound <= 1 + 1e-6
    assert float(lipschitz_bound(model, "l2").logits.max()) <= 1 + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCURACY)
def test_a_fresh_training_gives_the_same_quality(name: str) -> None:
    from robcert.training import fit

    recipe = read_recipe(ZOO / name)
    test = images_of(name, None)
    folder = None if recipe.data == "digits" else data_dir()
    net = fit(recipe, load_dataset(recipe.data, split="train", data_dir=folder), test, device=CPU)
    card = read_toml(ZOO / name / "model.toml")
    # Another processor or torch rounds otherwise, and training amplifies it: up to ten images of 500, 50 of 10,000.
    within = 0.02 if recipe.data == "digits" else 0.005
    assert measure(net, test, CPU).accuracy == pytest.approx(card.results["natural_accuracy"], abs=within)
