"""Every option of a shared set is on every command of the set."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from robcert.cli.flags import DataFlags, FlagSet, ModelFlags, names_of
from robcert.cli.main import app

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SETS: dict[type[FlagSet], tuple[str, ...]] = {
    ModelFlags: ("attack", "certify", "norms", "jacobian", "detect", "export", "verify", "gate"),
    DataFlags: ("attack", "certify", "jacobian", "detect"),
}
OF_RUNS = ("compare", "report", "show", "runs")


@pytest.mark.parametrize(("kind", "command"), [(kind, command) for kind in SETS for command in SETS[kind]])
def test_every_option_of_a_set(kind: type[FlagSet], command: str) -> None:
    options = {param.name: param for param in COMMANDS[command].params}
    assert set(names_of(kind)) <= set(options)
    if command != "gate":
        panels = {options[name].rich_help_panel for name in names_of(kind)}
        assert panels == {"Model" if kind is ModelFlags else "Data"}


@pytest.mark.parametrize("command", OF_RUNS)
def test_what_takes_runs_has_neither(command: str) -> None:
    of_sets = {name for kind in SETS for name in names_of(kind)}
    shared = {"data_dir"} if command == "compare" else {"model"}  # of the data of runs; of a run, one of its models
    assert {param.name for param in COMMANDS[command].params} & of_sets <= shared
