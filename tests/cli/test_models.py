"""`robcert models` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from robcert.cli.models import models
from robcert.network import Card, save_model, zoo
from robcert.network.card import write_toml
from tests.network.conftest import CLASSES, SHAPE, small_net

app = typer.Typer()
app.command()(models)


@pytest.fixture(autouse=True)
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    card = Card(
        architecture="cnn",
        input_shape=SHAPE,
        num_classes=CLASSES,
        data="digits",
        results={"natural_accuracy": 0.9876},
    )
    save_model(small_net(), card, folder / "weights.safetensors")
    write_toml(card, folder / "model.toml")
    monkeypatch.setattr(zoo, "zoo_roots", lambda: [tmp_path])
    monkeypatch.setenv("COLUMNS", "160")


def test_the_table() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    for text in ("tiny", "98.8 %", "1x4x4", "l2nnn", "torchvision:NAME", "package.module:factory"):
        assert text in result.output


def test_the_json() -> None:
    form = json.loads(CliRunner().invoke(app, ["--format", "json"]).output)
    assert form["schema"] == "robcert.models/1"
    (entry,) = form["models"]
    assert (entry["name"], entry["natural"], entry["card"]["data"]) == ("tiny", 0.9876, "digits")
    assert {"cnn", "l2nnn"} <= {item["name"] for item in form["architectures"]}
    assert "hidden" in next(item for item in form["architectures"] if item["name"] == "mlp")["options"]
