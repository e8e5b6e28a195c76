"""Training, tiny: it learns, it repeats itself bit for bit, and what is written loads."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tiny_recipes import OBJECTIVES, tiny
from torch import Tensor, nn
from torch.nn import functional

from robcert.data import load_dataset
from robcert.errors import EvaluationError, UsageError
from robcert.network import load_model
from robcert.nn.nonexpansive import constraints
from robcert.training import Checkpoint, Epoch, fit, measure, train
from robcert.training import optimiser as optimiser_of
from robcert.training import precision as precision_of
from robcert.training.adversary import norms, perturb, start
from robcert.training.loop import augment, build
from robcert.training.optimiser import ScheduledOptimiser
from robcert.training.recipe import Augmentation, Optimiser

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    return load_dataset("digits", split="train", n=600), load_dataset("digits", n=200)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_learns_and_repeats_itself(objective: str, precision: str, data: tuple[Any, Any]) -> None:
    epochs: list[Epoch] = []
    before = torch.random.get_rng_state()
    net = fit(tiny(objective, precision=precision), *data, device=CPU, report=epochs.append)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's generator is left alone"
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert epochs[-1].accuracy > 0.35, "four epochs are far above chance"
    assert not net.training
    assert list(constraints(net)) == []
    assert {weight.dtype for weight in net.state_dict().values()} == {torch.float32}
    again = fit(tiny(objective, precision=precision), *data, device=CPU)
    other = fit(tiny(objective, precision=precision, seed=1), *data, device=CPU)
    first, second, third = (m.state_dict() for m in (net, again, other))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], third[key]) for key in first)


@pytest.mark.parametrize("name", get_args(Optimiser.model_fields["name"].annotation))
def test_every_optimiser_moves_all_that_is_trained(name: str, data: tuple[Any, Any]) -> None:
    recipe = tiny("l2nnn", optimiser={"name": name, "learning_rate": 1e-2})
    start = build(recipe, data[0].shape, 10)
    before = [parameter.clone() for parameter in start.parameters()]
    optimiser = ScheduledOptimiser(recipe.optimiser, list(start.parameters()), epochs=1, batches=10)
    x, y = data[0].x[:64], data[0].y[:64]
    optimiser.zero_grad()
    functional.cross_entropy(start(x), y).backward()
    optimiser.step()
    assert all(bool((a != b).any()) for a, b in zip(before, start.parameters(), strict=True))


def test_muon_learns(data: tuple[Any, Any]) -> None:
    epochs: list[Epoch] = []
    recipe = tiny("l2nnn", optimiser={"name": "muon", "learning_rate": 5e-2})
    fit(recipe, *data, device=CPU, report=epochs.append)
    assert epochs[-1].accuracy > 0.35, "four epochs are far above chance"


@pytest.mark.parametrize("native", [True, False])
def test_muon_moves_a_matrix_by_its_rate_in_every_direction(
    native: bool, data: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The singular values of its step are near 1 (within the loose ends of five Newton-Schulz iterations)."""
    monkeypatch.setattr(optimiser_of, "multiplies_bfloat16", lambda device: native)
    layer = nn.Linear(64, 10)
    before = layer.weight.detach().clone()
    rate = 0.02
    table = Optimiser(name="muon", learning_rate=rate, schedule="constant")
    optimiser = ScheduledOptimiser(table, list(layer.parameters()), epochs=1, batches=100)
    functional.cross_entropy(layer(data[0].x[:64].flatten(1)), data[0].y[:64]).backward()
    optimiser.step()
    sizes = torch.linalg.svdvals(layer.weight.detach() - before) / rate
    # The labels' gradients sum to zero: one of the ten directions has none.
    assert bool((sizes[:9] > 0.4).all())
    assert bool((sizes <= 1.3).all())


@pytest.mark.parametrize("divide", ["whole", "each"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trained_l2nnns_are_nonexpansive(divide: str, precision: str, data: tuple[Any, Any]) -> None:
    objective = {**OBJECTIVES["l2nnn"], "divide": divide}
    net = fit(tiny("l2nnn", objective=objective, precision=precision), *data, device=CPU).double()
    x = data[1].x.double()
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-3, 0.1, 1.0):
        z = x + scale * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            change = (net(x) - net(z)).abs().amax(1)
        assert bool((change <= (x - z).flatten(1).norm(dim=1) * (1 + 1e-6)).all())


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_for_processors_that_have_it(
    native: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_of, "multiplies_bfloat16", lambda device: native)
    seen: list[torch.dtype] = []
    layer = nn.Conv2d(1, 4, 3)
    layer.register_forward_hook(lambda module, given, result: seen.append(result.dtype))
    net = precision_of.Mixed(nn.Sequential(layer, nn.Flatten(), nn.Linear(144, 10)))
    net(torch.rand(2, 1, 8, 8)).sum().backward()
    assert seen == [expected]
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in net.parameters())


def test_muon_stays_in_float32_where_bfloat16_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps differ from those in bfloat16 by the rounding of bfloat16, and not by nothing."""
    steps: list[Tensor] = []
    for native in (True, False):
        monkeypatch.setattr(optimiser_of, "multiplies_bfloat16", lambda device, native=native: native)
        weight = nn.Parameter(torch.zeros(16, 32))
        weight.grad = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
        before = weight.grad.clone()
        table = Optimiser(name="muon", learning_rate=1.0, schedule="constant")
        ScheduledOptimiser(table, [weight], epochs=1, batches=1).step()
        assert torch.equal(weight.grad, before)
        steps.append(weight.detach().clone())
    difference = (steps[0] - steps[1]).norm() / steps[0].norm()
    assert 0 < float(difference) < 0.05


def test_divergence_is_an_error_not_a_model(data: tuple[Any, Any]) -> None:
    recipe = tiny(optimiser={"name": "sgd", "learning_rate": 1e30, "schedule": "constant"})
    with pytest.raises(EvaluationError, match=r"the loss became .* in epoch"):
        fit(recipe, *data, device=CPU)


def test_wrong_options_name_the_architecture(data: tuple[Any, Any]) -> None:
    with pytest.raises(UsageError, match=r"'linear' cannot be made .*hiden"):
        fit(tiny(architecture={"name": "linear", "options": {"hiden": 3}}), *data, device=CPU)
    with pytest.raises(UsageError, match="Did you mean 'mlp'"):
        fit(tiny(architecture={"name": "mlpp"}), *data, device=CPU)


RECIPE = """
name = "tiny"
description = "For a test."
epochs = 3
threads = 1
[architecture]
name = "l2nnn"
options = { channels = [4], hidden = [16] }
[objective]
name = "l2nnn"
v = 10.0
"""


def test_what_is_written_loads_with_the_same_logits(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    trained = train(tmp_path, device="cpu")
    assert trained.path == tmp_path / "weights.safetensors"
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"recipe.toml", "weights.safetensors", "model.toml", "RESULTS.md", "curves.csv", "curves.svg"}
    test = load_dataset("digits")
    loaded = load_model(tmp_path)
    assert loaded.input_shape == (1, 8, 8)
    seen = measure(loaded.module, test, CPU)
    results = trained.card.results
    assert seen.accuracy == pytest.approx(results["natural_accuracy"], abs=1e-5)
    assert seen.mean_gap == pytest.approx(results["mean_gap"], abs=1e-5)
    page = (tmp_path / "RESULTS.md").read_text()
    assert f"| natural accuracy | {100 * seen.accuracy:.1f} % |" in page
    first = {name: (tmp_path / name).read_bytes() for name in files}
    for suffix in (".pt", ".safetensors"):
        one = train(tmp_path, output=tmp_path / "out" / f"model{suffix}", device="cpu").path
        assert torch.equal(load_model(one).module(test.x), loaded.module(test.x))
    train(tmp_path / "recipe.toml", output=tmp_path / "again", device="cpu")
    for name in files - {"recipe.toml"}:
        assert (tmp_path / "again" / name).read_bytes() == first[name], "the same recipe, the same bytes"


def test_the_output_is_checked_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.setattr("robcert.training.run.train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(UsageError, match=r"ends in '\.onnx'"):
        train(tmp_path, output=tmp_path / "model.onnx")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        train(tmp_path, output=tmp_path / "file" / "below")
    test = load_dataset("digits", n=20)
    np.savez(tmp_path / "one.npz", x=test.x.numpy(), y=test.y.numpy())
    (tmp_path / "one.toml").write_text(f'data = "npz:{tmp_path / "one.npz"}"\n' + RECIPE)
    with pytest.raises(UsageError, match="are its test images"):
        train(tmp_path / "one.toml")
    with pytest.raises(UsageError, match="device 'gpu'"):
        train(tmp_path, device="gpu")
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.toml", "file", "one.npz", "one.toml"}


class Killed(Exception):
    pass


def test_an_interrupted_command_leaves_its_file_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(reached: Epoch) -> None:
        if reached.number == 2:
            raise Killed

    (tmp_path / "recipe.toml").write_text(RECIPE)
    expected = train(tmp_path, output=tmp_path / "whole", device="cpu").path.read_bytes()
    monkeypatch.setattr(
        "robcert.training.run.Checkpoint", lambda path, fingerprint: Checkpoint(path, fingerprint, every=0.0)
    )
    for output in (tmp_path / "out", tmp_path / "out.safetensors"):
        with pytest.raises(Killed):
            train(tmp_path, output=output, device="cpu", report=kill)
        unfinished = list(tmp_path.rglob("*.training.pt"))
        assert len(unfinished) == 1
        seen: list[Epoch] = []
        path = train(tmp_path, output=output, device="cpu", report=seen.append).path
        assert [epoch.number for epoch in seen] == [3]
        assert path.read_bytes() == expected
        assert not unfinished[0].exists()
    # A file that cannot be read any more must not be in the way for ever.
    (tmp_path / "out" / ".training.pt").write_bytes(b"PK, then nothing")
    assert train(tmp_path, output=tmp_path / "out", device="cpu").path.read_bytes() == expected


def test_learning_curves(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    seen: list[Epoch] = []
    train(tmp_path, device="cpu", report=seen.append)
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,mean_gap"
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx([e.loss for e in seen], rel=1e-5)
    assert [float(line.split(",")[3]) for line in lines[1:]] == pytest.approx([e.mean_gap for e in seen], rel=1e-5)
    picture = (tmp_path / "curves.svg").read_text()
    assert picture.startswith("<?xml")
    for text in (
        "tiny",
        "mean loss of the training",
        "accuracy on the test images",
        "average confidence gap on the test images",
    ):
        assert f">{text}</text>" in picture


def test_a_network_that_may_expand_promises_nothing(tmp_path: Path) -> None:
    """Half a gap stands in the results only where it is a guarantee."""
    free = RECIPE.replace("v = 10.0", "v = 10.0\nregularise = false")
    undivided = RECIPE.replace("hidden = [16]", "hidden = [16], divide_before = false")
    for text in (free, undivided):
        (tmp_path / "recipe.toml").write_text(text)
        results = train(tmp_path, output=tmp_path / "out", device="cpu").card.results
        assert not [key for key in results if "half_gap" in key]
        assert "mean_gap" in results


def test_the_rate_falls_at_the_milestones() -> None:
    """From the beginning of these epochs; two batches each."""
    weight = nn.Parameter(torch.ones(1))
    table = Optimiser(name="sgd", learning_rate=1.0, schedule="steps", milestones=(1, 3), factor=0.5)
    optimiser = ScheduledOptimiser(table, [weight], epochs=4, batches=2)
    rates: list[float] = []
    for _ in range(8):
        rates.append(optimiser.optimisers[0].param_groups[0]["lr"])
        weight.grad = torch.zeros(1)
        optimiser.step()
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_adversary_stays_inside_and_raises_the_loss(norm: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)).train()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    data = load_dataset("digits", n=50)
    adversarial = perturb(
        net,
        data.x,
        data.y,
        norm=norm,
        eps=0.3,
        steps=5,
        step=0.1,
        box=(0.0, 1.0),
        generator=torch.Generator().manual_seed(0),
    )
    delta = (adversarial - data.x).double()
    length = norms(delta).flatten() if norm == "l2" else delta.flatten(1).abs().amax(1)
    assert float(length.max()) <= 0.3 * (1 + 1e-5)
    assert float(adversarial.min()) >= 0
    assert float(adversarial.max()) <= 1
    loss = nn.functional.cross_entropy
    assert net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items()), "statistics included"
    assert all(parameter.grad is None for parameter in net.parameters())
    net.eval()
    assert float(loss(net(adversarial), data.y).detach()) > float(loss(net(data.x), data.y).detach())


def test_the_start_is_uniform_in_the_ball() -> None:
    x = torch.zeros(4000, 2)
    generator = torch.Generator().manual_seed(0)
    radius = norms(start(x, "l2", 2.0, generator)).flatten() / 2
    # In two dimensions half of the ball lies within sqrt(1/2) of the radius.
    assert float(radius.max()) <= 1 + 1e-6
    assert float((radius < 0.5**0.5).double().mean()) == pytest.approx(0.5, abs=0.03)
    entries = start(x, "linf", 2.0, generator)
    assert float(entries.abs().max()) <= 2
    assert float(entries.mean()) == pytest.approx(0, abs=0.05)


def test_shifts_move_whole_images_and_fill_with_zeros() -> None:
    x = load_dataset("digits", n=200).x
    shifted = augment(x, Augmentation(shift=2), (0.0, 1.0), torch.Generator().manual_seed(0))
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    seen = set()
    for before, after in zip(padded, shifted, strict=True):
        places = [(i, j) for i in range(5) for j in range(5) if torch.equal(before[:, i : i + 8, j : j + 8], after)]
        assert places
        seen.update(places if len(places) == 1 else [])
    assert len(seen) == 25, "every shift is drawn"
    with pytest.raises(UsageError, match="shift needs images"):
        augment(torch.zeros(2, 5), Augmentation(shift=1), (0.0, 1.0), torch.Generator())


def test_real_images() -> None:
    """One epoch on MNIST where it is, on the embedded digits elsewhere."""
    folder = Path(os.environ.get("ROBCERT_DATA", ""))
    there = (folder / "MNIST" / "raw").is_dir()
    name, n = ("mnist", 4000) if there else ("digits", None)
    data = load_dataset(name, split="train", n=n, data_dir=folder if there else None)
    test = load_dataset(name, n=500, data_dir=folder if there else None)
    recipe = tiny(data=name, epochs=2 if there else 10, augmentation={})
    net = fit(recipe, data, test, device=CPU)
    assert measure(net, test, CPU).accuracy > 0.8


def test_measured_numbers() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3]

    data = load_dataset("digits", n=4)
    x = torch.zeros(4, 1, 8, 8)
    x[:, 0, 0, :3] = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.25, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    seen = measure(Fixed(), dataclasses.replace(data, x=x, y=torch.tensor([0, 1, 1, 2])), CPU)
    assert seen.correct.tolist() == [True, True, False, True]
    assert seen.gap.tolist() == [0.5, 0.25, 1.0, 1.0]
    assert seen.accuracy == 0.75
    assert seen.certified(0.2) == 0.5
    assert seen.certified(0.25) == 0.25, "strictly above the radius"
