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
