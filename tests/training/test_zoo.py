"""The models that ship: as good as promised, and their pages and cards say what they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from robcert.bounds.lipschitz.network_bound import lipschitz_bound
from robcert.data import load_dataset
from robcert.network import Card, load_model
from robcert.network.card import read_toml
from robcert.nn.bounds import copies
from robcert.nn.heads import Heads
from robcert.training import Recipe, measure, read_recipe
from robcert.training.measure import Measured
from robcert.training.run import results_page
from robcert.types import Dataset

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
}
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
    assert (ZOO / name / "weights.safetensors").stat().st_size < 4_000_000
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


def test_the_small_l2nnn_is_sure() -> None:
    _, seen = measured("digits-l2nnn", None)
    assert seen.certified(0.1) >= 0.8
    assert seen.certified(0.25) >= 0.5


@pytest.mark.parametrize("name", L2NNNS)
def test_l2nnns_are_nonexpansive_layer_by_layer_and_as_a_whole(name: str) -> None:
    model = load_model(ZOO / name)
    layers = [layer for layer in model.module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    options = read_toml(ZOO / name / "model.toml").options
    stacks = 10 * (1 + len(options["label_hidden"])) if "label_hidden" in options else 1
    assert len(layers) == 1 + len(options["hidden"]) + stacks
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
