"""The diagnostics of the zoo: what is found on the digits, and the check on a network whose answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys import WIDE, exact_distance, random_linear, toy

from robcert.reproductions import Settings, reproductions
from robcert.reproductions.zoo_diagnostics import Attacked, _checked, _linearised  # pyright: ignore[reportPrivateUsage]
from robcert.runs.api import attack
from robcert.runs.record import WarningRecord
from robcert.types import Dataset, Threat, ThreatNorm

DIGITS = ("digits-plain", "digits-at", "digits-l2nnn")


@pytest.mark.parametrize("names", [DIGITS[1:2], pytest.param(DIGITS, marks=pytest.mark.slow)], ids=["one", "all"])
def test_the_digits_models_show_none(names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robcert.reproductions.zoo_diagnostics.zoo_names", lambda: names)
    record = reproductions.get("zoo-diagnostics")(Settings(n=10, data="digits", threads=1, runs=tmp_path))
    rows = {(row[0], row[1]): row for row in record.tables[0].rows}
    assert set(rows) == {(name, norm) for name in names for norm in ("l2", "linf")}
    assert {row[-1] for row in rows.values()} == {"none"}
    assert record.verdicts == []


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_on_a_linear_network_the_gradient_points_at_the_boundary(norm: ThreatNorm) -> None:
    net, x, y = random_linear(16, 4, seed=1, n=12)
    model, exact = toy(net, (16,), 4, WIDE), exact_distance(net, x, y, norm)
    # The nearest boundary is that of the class with the second largest logit for few images only.
    assert bool((_linearised(model, x, y, norm) >= exact * (1 - 1e-5)).all())
    eps = float(exact.max()) * 1.1
    images = Dataset("toy", "test", x, y, torch.arange(12), ("a", "b", "c", "d"), WIDE)
    found = attack(model, images, Threat(norm, (eps,), WIDE), "pgd:20", certify="none", goal="minimize").models[0]
    one = Attacked("toy", model, images, Threat(norm, (eps,), WIDE), found, None)
    sign = WarningRecord(name="gradient-free-wins", message="", advice="", images=[2, 5, 7])
    row, line = _checked(one, sign, Settings(runs=None, threads=1))  # type: ignore[arg-type]
    assert row[2:4] == [3.0, 3.0], "cw breaks all three of a linear network"
    assert 0.99 <= float(row[4] or 0) <= 2
    assert "not confirmed" in line
