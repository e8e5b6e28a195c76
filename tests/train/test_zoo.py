"""The models that ship: as good as promised, and their pages and cards say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from robcert.data import load_dataset
from robcert.network import Card, load_model
from robcert.network.card import read_toml
from robcert.nn.bounds import copies, gram_bound
from robcert.nn.heads import Heads
from robcert.train import Recipe, measure, read_recipe
from robcert.train.measure import Measured
from robcert.train.run import results_page

ZOO = Path(__file__).resolve().parents[2] / "models"
NAMES = sorted(path.parent.name for path in ZOO.glob("*/weights.safetensors"))
ACCURACY = {"digits-plain": 0.97, "digits-at": 0.97, "digits-l2nnn": 0.94}
CPU = torch.device("cpu")


def measured(name: str) -> tuple[Card, Measured]:
    card = read_toml(ZOO / name / "model.toml")
    assert card.data == "digits"
    return card, measure(load_model(ZOO / name).module, load_dataset("digits"), CPU)


def test_all_are_there() -> None:
    assert set(ACCURACY) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_recipe_page_and_weights_belong_together(name: str) -> None:
    card = read_toml(ZOO / name / "model.toml")
    assert (ZOO / name / "weights.safetensors").stat().st_size < 1_000_000
    assert Recipe.model_validate(card.recipe) == read_recipe(ZOO / name), "trained by another recipe"
    assert (ZOO / name / "RESULTS.md").read_text() == results_page(card)
    assert load_model(ZOO / name).card == load_model(ZOO / name / "weights.safetensors").card


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_and_gaps(name: str) -> None:
    card, seen = measured(name)
    assert seen.accuracy >= ACCURACY[name]
    assert seen.accuracy == pytest.approx(card.results["natural_accuracy"], abs=1e-6)
    assert seen.mean_gap == pytest.approx(card.results["mean_gap"], rel=1e-4)


def test_the_l2nnn_is_sure_and_keeps_its_bounds() -> None:
    _, seen = measured("digits-l2nnn")
    assert seen.certified(0.1) >= 0.8
    assert seen.certified(0.25) >= 0.5
    net = load_model(ZOO / "digits-l2nnn").module
    constrained = 0
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weight = layer.weight.detach().double()
            if isinstance(layer, Heads):
                bound = float(weight.square().sum(1).max())
            elif isinstance(layer, nn.Conv2d):
                bound = float(gram_bound(weight)) * copies(layer.kernel_size, layer.stride)
            else:
                bound = float(gram_bound(weight))
            # The weights are float32: one rounding each.
            assert bound <= 1 + 1e-6
            constrained += 1
    assert constrained == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCURACY)
def test_a_fresh_training_gives_the_same_quality(name: str) -> None:
    from robcert.train import train

    recipe = read_recipe(ZOO / name)
    test = load_dataset(recipe.data)
    net = train(recipe, load_dataset(recipe.data, split="train"), test, device=CPU)
    card, _ = measured(name)
    # Another processor or torch rounds otherwise, and training amplifies it: up to ten images of 500.
    assert measure(net, test, CPU).accuracy == pytest.approx(card.results["natural_accuracy"], abs=0.02)
