"""`robcert train`, as it is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from robcert.cli.train import train
from robcert.errors import UsageError

app = typer.Typer()
app.command()(train)
RECIPE = 'name = "tiny"\nepochs = 20\nthreads = 1\n[architecture]\nname = "linear"\n'


def test_progress_on_stderr_and_the_card_on_stdout(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    result = CliRunner().invoke(app, [str(tmp_path), "--output", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 10, "no terminal: about ten plain lines"
    assert lines[-1].startswith("epoch 20/20: loss ")
    assert "average gap" in lines[-1]
    assert "\x1b" not in result.stderr
    assert "natural accuracy" in result.stdout
    assert f"robcert attack {tmp_path / 'new' / 'weights.safetensors'}" in result.stdout
    assert (tmp_path / "new" / "model.toml").is_file()


def test_errors_reach_the_caller(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "none.toml")])
    assert isinstance(result.exception, UsageError)
    with pytest.raises(UsageError, match="there is no recipe"):
        raise result.exception


def test_what_is_decided_about_the_images_is_said(tmp_path: Path) -> None:
    """Pictures of two splits, an order of their classes, and a budget in the units of a byte."""
    from PIL import Image

    for split, shift in (("train", 0), ("test", 3)):
        for number, name in enumerate(("dark", "bright")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            Image.new("L", (4, 4), 40 + 150 * number + shift).save(tmp_path / "images" / split / name / "1.png")
    (tmp_path / "order.txt").write_text("dark\nbright\n")
    (tmp_path / "recipe.toml").write_text(
        f'name = "tiny"\nepochs = 2\nthreads = 1\ndata = "folder:{tmp_path / "images"}"\n'
        f'class_order = "{tmp_path / "order.txt"}"\n[architecture]\nname = "linear"\n'
        '[objective]\nname = "adversarial"\nnorm = "linf"\neps = 8\nsteps = 1\n'
    )
    result = CliRunner().invoke(app, [str(tmp_path / "recipe.toml"), "--output", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("classes in the given order: 0 dark, 1 bright") == 1
    assert "eps 8 in linf is wider than half of the box [0, 1] (0.5)" in result.stderr
