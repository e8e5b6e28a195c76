"""How many images a leg holds at once: more where a pass is short, and the same verdicts."""

from __future__ import annotations

import pytest
import torch
from toys import run_leg

from robcert import attack
from robcert.accel import batch_size
from robcert.accel.batch_size import tune_batch_size
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.runs import acceleration
from robcert.types import Threat


@pytest.mark.parametrize(
    ("milliseconds", "images", "slots", "expected"),
    [
        (2.0, 128, 128, 512),
        (10.0, 128, 128, 256),
        (15.0, 128, 128, 128),
        (40.0, 128, 128, 128),
        (2.0, 32, 128, 256),  # fewer images than slots: the time of one counts
        (1.0, 128, 512, 512),
        (1.0, 8, 8, 128),
    ],
)
def test_short_passes_take_more_images(
    milliseconds: float, images: int, slots: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "benchmark", lambda networks, x, seconds: [milliseconds * 1e-3])
    assert tune_batch_size(torch.nn.Identity(), torch.rand(images, 1, 8, 8), slots) == expected


@pytest.mark.parametrize(("milliseconds", "expected"), [(0.4, 512), (0.9, 256), (1.5, 128)])
def test_every_kind_of_device_has_its_own_bound(
    milliseconds: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "benchmark", lambda networks, x, seconds: [milliseconds * 1e-3])
    monkeypatch.setitem(batch_size._BUSY, "cpu", batch_size._BUSY["cuda"])  # pyright: ignore[reportPrivateUsage]
    assert tune_batch_size(torch.nn.Identity(), torch.rand(128, 1, 8, 8), 128) == expected
    assert tune_batch_size(torch.nn.Identity(), torch.rand(128, 1, 8, 8, device="meta"), 128) == 128


def test_there_is_nothing_to_measure_without_images() -> None:
    assert tune_batch_size(torch.nn.Identity(), torch.rand(0, 1, 8, 8), 128) == 128


@pytest.mark.parametrize("name", ["pgd", "cw"])
def test_the_same_verdicts_in_wide_batches(name: str) -> None:
    """Restarts of an image run at once in the wide batch and one after the other in the narrow one."""
    model, data = load_model("digits-plain"), load_dataset("digits", n=48)
    with torch.no_grad():
        y = model.module(data.x).argmax(1)
    statuses: list[torch.Tensor] = []
    for slots in (16, 256):
        bracket, _ = run_leg(model, data.x, y, Threat("linf", (0.06,)), name, iterations=30, restarts=3, slots=slots)
        statuses.append(bracket.distance <= 0.06)
    assert torch.equal(*statuses)
    assert 0 < int(statuses[0].sum()) < 48, "the comparison means something"


def test_who_waits_for_an_early_end_and_who_names_a_size_get_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(acceleration, "tune_batch_size", lambda network, x, slots: asked.append(slots) or slots)
    model, data, threat = load_model("digits-plain"), load_dataset("digits", n=8), Threat("linf", (0.05,))
    attack(model, data, threat, "pgd:5", certify="none", cpu_threads=1, batch_size=16)
    attack(model, data, threat, "pgd:5", certify="none", cpu_threads=1, enough=lambda standing: None)
    assert asked == []
    attack(model, data, threat, "pgd:5", certify="none", cpu_threads=1)
    assert asked == [128]
