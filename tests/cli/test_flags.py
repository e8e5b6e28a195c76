"""Every option of a shared set is on every command of the set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

import robcert
from robcert.certificates import Certificates, certificates
from robcert.cli.flags import DataFlags, FlagSet, ModelFlags, names_of
from robcert.cli.main import app
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.types import LoadedModel

from .conftest import Call

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SETS: dict[type[FlagSet], tuple[str, ...]] = {
    ModelFlags: ("attack", "certify", "norms", "jacobian", "detect", "export", "verify", "gate"),
    DataFlags: ("attack", "certify", "jacobian", "detect", "gate"),
}
OF_RUNS = ("compare", "report", "show", "runs", "leaderboard")


@pytest.mark.parametrize(("kind", "command"), [(kind, command) for kind in SETS for command in SETS[kind]])
def test_every_option_of_a_set(kind: type[FlagSet], command: str) -> None:
    options = {param.name: param for param in COMMANDS[command].params}
    assert set(names_of(kind)) <= set(options)
    panels = {options[name].rich_help_panel for name in names_of(kind)}
    assert panels == {"Model" if kind is ModelFlags else "Data"}


@pytest.mark.parametrize("command", OF_RUNS)
def test_what_takes_runs_has_neither(command: str) -> None:
    of_sets = {name for kind in SETS for name in names_of(kind)}
    shared = {"data_dir"} if command == "compare" else {"model"}  # of the data of runs; of a run, one of its models
    assert {param.name for param in COMMANDS[command].params} & of_sets <= shared


def test_the_box(call: Call, tmp_path: Path) -> None:
    """The digits in [-1, 1], for the network that takes them there: the answers and distances are twice as far."""
    digits = load_dataset("digits", n=20)
    np.savez(tmp_path / "wide.npz", x=2 * digits.x.numpy() - 1, y=digits.y.numpy())
    np.savez(tmp_path / "unit.npz", x=digits.x.numpy(), y=digits.y.numpy())
    torch.save(torch.nn.Linear(64, 10).state_dict(), tmp_path / "net.pt")
    (tmp_path / "mine.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(64, 10)\n")
    plan = ["--arch", "mine:net", "--plan", "pgd:5", "--goal", "minimize", "--format", "json", "--certify", "none"]
    found = {}
    for data, more in (("unit", ["--mean", "0.5", "--std", "0.5"]), ("wide", ["--box=-1,1"])):
        answer = call("attack", "net.pt", "--data", f"npz:{data}.npz", *more, "--eps", "0.5", *plan)
        assert answer.code == 0, answer.err
        found[data] = json.loads(answer.out)
    assert found["wide"]["threat"]["box"] == [-1, 1]
    assert found["wide"]["models"][0]["natural_correct"] == found["unit"]["models"][0]["natural_correct"]
    answer = call("attack", "net.pt", "--data", "npz:wide.npz", "--eps", "0.5", *plan)
    assert (answer.code, "[0, 1] was expected" in answer.err) == (3, True)
    for command in (["certify", "--method", "gap", "--eps", "0.1"], ["jacobian"], ["detect", "--calibration", "5"]):
        answer = call(command[0], "net.pt", "--arch", "mine:net", "--box=-1,1", "--data", "npz:wide.npz", *command[1:])
        assert "was expected" not in answer.err, answer.err
    answer = call("export", "digits-plain", "out.safetensors", "--box=-1,1")
    assert answer.code == 0, answer.err
    assert load_model("out.safetensors").box == (-1, 1)
    for wrong in ("1", "1,0", "a,b", "0,1,2"):
        assert call("jacobian", "digits-plain", f"--box={wrong}").code == 2


def test_batch_size(call: Call) -> None:
    """The answers are those of any batch size."""
    lines = {
        "certify": ["--eps", "0.05", "--norm", "linf", "--method", "ibp", "--n", "24"],
        "jacobian": ["--n", "24"],
        "attack": ["--eps", "0.3", "--plan", "pgd:2", "--n", "24", "--certify", "none", "--threads", "1"],
        "detect": ["--calibration", "20", "--n", "24", "--plan", "pgd:2", "--attacked", "20"],
    }
    for command, options in lines.items():
        whole, small = (
            call(command, "digits-plain", *options, "--format", "json", *more) for more in ([], ["--batch-size", "8"])
        )
        assert whole.code == small.code == 0, small.err
        one, other = (json.loads(answer.out) for answer in (whole, small))
        names = {"certify": "certified_correct", "jacobian": "n", "attack": "natural_correct"}
        if command in names:
            assert one["models"][0][names[command]] == other["models"][0][names[command]]


@pytest.mark.parametrize("store", [False, True])
def test_certificates_in_batches(store: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = certificates.get("ibp")

    def counted(model: LoadedModel, x: torch.Tensor, *rest: Any) -> Certificates:
        sizes.append(len(x))
        return real(model, x, *rest)

    monkeypatch.setattr(certificates, "get", lambda name: replace(real, function=counted))
    model, data = robcert.load_model("digits-plain"), load_dataset("digits", n=20)
    run = tmp_path / "run" if store else None
    robcert.certify(model, data, robcert.Threat("linf", (0.05,)), "ibp", batch_size=5, run=run)
    assert max(sizes) == 5
    assert sum(sizes) == 20
