"""Images held out of the training images: which, and what they decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipes import tiny
from torch.nn import functional

from robcert.data import load_dataset
from robcert.errors import UsageError
from robcert.network import load_model
from robcert.training import Epoch, fit, train
from robcert.training.held_out import split
from robcert.training.recipe import HeldOut

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    return load_dataset("digits", split="train", n=300), load_dataset("digits", n=100)


def test_the_split_is_stratified_and_loses_nothing(data: tuple[Any, Any]) -> None:
    kept, out = split(data[0], HeldOut(images=60, seed=3))
    assert (len(kept), len(out)) == (240, 60)
    assert sorted([*kept.index.tolist(), *out.index.tolist()]) == sorted(data[0].index.tolist())
    place = {index: i for i, index in enumerate(data[0].index.tolist())}
    order = [place[index] for index in kept.index.tolist()]
    assert order == sorted(order), "what is trained on keeps its order"
    share = data[0].y.bincount() / 300 * 60
    assert float((out.y.bincount() - share).abs().max()) <= 1
    other = split(data[0], HeldOut(images=60, seed=4))[1]
    assert out.index.tolist() != other.index.tolist()
    with pytest.raises(UsageError, match=r"held_out\.images is 300, but there are 300"):
        split(data[0], HeldOut(images=300))


def test_the_best_weights_are_kept_or_the_last(data: tuple[Any, Any]) -> None:
    out = split(data[0], HeldOut(images=60))[1]
    # The rate grows until the training falls apart, so the best epoch is not the last.
    optimiser = {"name": "sgd", "learning_rate": 0.3, "schedule": "steps", "milestones": [3], "factor": 20.0}
    for keep in ("best", "last"):
        seen: list[Epoch] = []
        recipe = tiny(epochs=5, optimiser=optimiser, held_out={"images": 60, "keep": keep}, augmentation={})
        net = fit(recipe, *data, device=CPU, report=seen.append)
        losses = [epoch.held_out_loss for epoch in seen]
        assert None not in losses
        assert len(losses) == 5, "without patience it goes to the end"
        with torch.no_grad():
            found = float(functional.cross_entropy(net(out.x).double(), out.y))
        expected = losses[-1] if keep == "last" else min(losses)  # type: ignore[type-var]
        assert min(losses) < losses[-1]  # type: ignore[type-var, operator]
        assert found == pytest.approx(expected, rel=1e-6)


def test_epochs_before_the_objective_is_settled_do_not_count(data: tuple[Any, Any]) -> None:
    """The switch to W' comes with epoch 3; however good epoch 1 and 2 are, patience begins there."""
    seen: list[Epoch] = []
    recipe = tiny(
        "l2nnn", optimiser={"learning_rate": 1e-12, "schedule": "constant"}, held_out={"images": 60, "patience": 1}
    )
    fit(recipe, *data, device=CPU, report=seen.append)
    assert [epoch.best for epoch in seen[:3]] == [False, False, True]


def test_images_held_out_change_nothing_but_the_images(data: tuple[Any, Any]) -> None:
    """Training with the last weights kept is training on the rest."""
    rest = split(data[0], HeldOut(images=60))[0]
    held = fit(tiny("adversarial", held_out={"images": 60, "keep": "last"}), *data, device=CPU).state_dict()
    plain = fit(tiny("adversarial"), rest, data[1], device=CPU).state_dict()
    assert all(torch.equal(held[key], plain[key]) for key in plain)


def test_what_is_written_says_which_epoch_was_kept(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        'name = "tiny"\nepochs = 3\nthreads = 1\n[architecture]\nname = "linear"\n'
        "[held_out]\nimages = 200\n[optimiser]\nlearning_rate = 0.1\n"
    )
    seen: list[Epoch] = []
    results = train(tmp_path, device="cpu", report=seen.append).card.results
    best = min(seen, key=lambda epoch: epoch.held_out_loss or 0)
    assert results["kept_epoch"] == best.number
    assert results["held_out_loss"] == pytest.approx(best.held_out_loss, abs=1e-6)
    assert f"| epoch whose weights are kept | {best.number} |" in (tmp_path / "RESULTS.md").read_text()
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,mean_gap,held_out_loss"
    assert [float(line.split(",")[4]) for line in lines[1:]] == pytest.approx(
        [epoch.held_out_loss for epoch in seen], rel=1e-5
    )
    recipe = load_model(tmp_path).card["recipe"]  # type: ignore[index]
    assert recipe["held_out"] == {"images": 200, "seed": 0, "keep": "best"}
