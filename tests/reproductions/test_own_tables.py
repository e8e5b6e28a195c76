"""Tables that train their own networks, at a size at which they take seconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from robcert.reproductions import Settings, _trained, l2nnn_resnet_table, l2nnn_table3, reproductions
from robcert.reproductions.record import ReproduceRecord
from robcert.training import Recipe


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(n=40, max_iterations=20, threads=1, runs=tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of the zoo with three epochs."""
    whole = _trained.base

    def short(data: str) -> Recipe:
        recipe = whole(data)
        options = {"channels": [4], "hidden": [16]}
        return _trained.changed(recipe, recipe.name, top={"epochs": 3}, architecture={"options": options})

    for module in (l2nnn_table3, l2nnn_resnet_table):
        monkeypatch.setattr(module, "base", short)


def column(record: ReproduceRecord, table: int, name: str, source: str = "ours") -> list[float]:
    found = record.tables[table]
    place = [(c.name, c.source) for c in found.columns].index((name, source))
    return [float(row[place] or 0.0) for row in found.rows]


def test_distances(settings: Settings) -> None:
    record = reproductions.get("l2nnn-distance")(dataclasses.replace(settings, n=2000))
    layers = [row[0] for row in record.tables[0].rows]
    for which in ("smallest", "median", "largest"):
        assert max(column(record, 0, f"normal: {which}")) <= 1 + 1e-12
    normal = dict(zip(layers, column(record, 0, "normal: smallest"), strict=True))
    negative = dict(zip(layers, column(record, 0, "all negative: smallest"), strict=True))
    assert min(normal["two-sided ReLU"], normal["two-sided tanh"]) >= 0.5**0.5
    assert negative["ReLU"] == 0, "all of the distance is lost"
    assert negative["two-sided ReLU"] == pytest.approx(1)
    edges = column(record, 1, "positive and zero: smallest")
    assert edges[1] == pytest.approx(1, abs=1e-6), "norm-pooling keeps the distance of an edge to nothing"
    assert edges[0] < 0.9


@pytest.mark.usefixtures("quick")
def test_ablation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(l2nnn_table3, "ROWS", l2nnn_table3.ROWS[:3])
    record = reproductions.get("l2nnn-table3")(settings)
    assert [row[0] for row in record.tables[0].rows][:2] == ["nothing (Model 3)", "weight reg."]
    slopes = column(record, 0, "Gap slope bound")
    assert max(slopes[0], *slopes[2:]) <= 2.05
    assert slopes[1] > 4, "without regularisation a gap guarantees little"
    assert len(record.verdicts) == 3
    assert column(record, 0, "R-Accu.", "paper") == [0.203, 0.0, 0.089]
    trained = {path.name for path in (settings.runs / "trained").iterdir()}
    before = {path: path.stat().st_mtime_ns for path in settings.runs.glob("trained/*/weights.safetensors")}
    assert len(trained) == len(before) == 3
    again = reproductions.get("l2nnn-table3")(settings)
    assert again.tables == record.tables
    assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing is trained twice"


@pytest.mark.usefixtures("quick")
def test_divide_before_convolution(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLAIN_NET", "RESNET"):
        rows = getattr(l2nnn_resnet_table, name)
        monkeypatch.setattr(l2nnn_resnet_table, name, rows[2:4])
    record = reproductions.get("l2nnn-resnet-table")(settings)
    assert [len(table.rows) for table in record.tables] == [2, 2, 3]
    gaps = column(record, 2, "gap")
    assert gaps[0] == pytest.approx(gaps[1] / 1e3, rel=1e-3)
    assert gaps[2] == pytest.approx(gaps[1] * 1e3, rel=1e-3)
    radii = column(record, 2, "radius")
    assert radii == pytest.approx([radii[1]] * 3, rel=1e-2), "a certificate does not depend on the scale"
    assert len(set(column(record, 2, "PGD-free"))) == 1, "and a scale-free attack does not either"
    assert any("stands" in line or "does not stand" in line for line in record.verdicts)


def test_the_order_of_two_columns() -> None:
    order = l2nnn_table3._order
    same = order("x", [5.0, 1, 2, 3, 4], [50.0, 10, 20, 30, 40])
    assert same == "x: the rows stand in the paper's order"
    swapped = order("x", [5.0, 2, 1, 3, 4], [50.0, 10, 20, 30, 40])
    assert swapped == "x: not the paper's order in 1 of 10 pairs: weight reg. / L_c loss"
    assert "1 ties" in order("x", [5.0, 1, 1, 3, 4], [50.0, 10, 20, 30, 40])


def test_the_plain_cross_entropy_is_blind_where_softmax_is_one() -> None:
    from robcert.attacks.losses.cross_entropy import cross_entropy
    from robcert.attacks.losses.plain_cross_entropy import plain_cross_entropy

    logits = torch.tensor([[300.0, 0.0, -5.0]], requires_grad=True)
    y = torch.tensor([0])
    (blind,) = torch.autograd.grad(plain_cross_entropy(logits, y).sum(), logits)
    (seeing,) = torch.autograd.grad(cross_entropy(logits, y).sum(), logits)
    assert float(blind.abs().max()) == 0
    assert float(seeing.abs().max()) > 0
