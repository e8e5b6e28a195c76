"""What a call lacks is named at once, and only that, with the same call in which it is there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import nn

from robcert.cli.effect import check
from robcert.cli.main import app
from robcert.cli.missing import check_missing

from .conftest import Call
from .messages import says

ROOT: Any = typer.main.get_command(app)

ARCH, SHAPE = "--arch torchvision:resnet18", "--input-shape 3,224,224"
DATA, EPS = "--data npz:images.npz", "--eps 0.5"
WEIGHTS = "net.pt holds weights, and nothing in it says of which network"
NO_CARD = "net.pt has no card that names its data"
NO_SHAPE = "net.pt does not say the shape of an image"

CALLS = {
    "attack net.pt": ("--arch, --data and --eps are missing", (WEIGHTS, NO_CARD), (ARCH, DATA, EPS)),
    "attack net.pt --n 4 --norm linf": (
        "--arch, --data and --eps are",
        (WEIGHTS, NO_CARD),
        (ARCH, DATA, "--eps 8/255"),
    ),
    "attack net.pt --eps 1 --data digits": ("--arch is missing", (WEIGHTS,), (ARCH,)),
    "attack net.pt --arch linear --eps 1": ("--data is missing", (NO_CARD,), (DATA,)),
    "attack net.pt --arch linear --data digits": ("--eps is missing", (), (EPS,)),
    "attack digits-plain": ("--eps is missing", (), (EPS,)),
    "attack digits-plain net.pt --eps 1": ("--arch and --data are missing", (WEIGHTS, NO_CARD), (ARCH, DATA)),
    "certify net.pt --method gap": ("--arch, --data and --eps are missing", (WEIGHTS, NO_CARD), (ARCH, DATA, EPS)),
    "certify digits-plain --norm l1": ("--eps is missing", (), ("--eps 5",)),
    "jacobian net.pt": ("--arch and --data are missing", (WEIGHTS, NO_CARD), (ARCH, DATA)),
    "detect net.pt": ("--arch and --data are missing", (WEIGHTS, NO_CARD), (ARCH, DATA)),
    "detect net.pt --images . --threshold-from t.json": (
        "--arch and --input-shape are missing",
        (WEIGHTS, NO_SHAPE),
        (ARCH, SHAPE),
    ),
    "norms net.pt": ("--arch and --input-shape are missing", (WEIGHTS, NO_SHAPE), (ARCH, SHAPE)),
    "norms net.pt --arch linear": ("--input-shape is missing", (NO_SHAPE,), (SHAPE,)),
    "export net.pt net.onnx": ("--arch and --input-shape are missing", (WEIGHTS, NO_SHAPE), (ARCH, SHAPE)),
    "export script.pt net.onnx": ("--input-shape is missing", ("script.pt does not say the shape",), (SHAPE,)),
    "verify net.pt p.vnnlib": ("--arch and --input-shape are missing", (WEIGHTS, NO_SHAPE), (ARCH, SHAPE)),
    "gate --init net.pt": ("--arch and --data are missing", (WEIGHTS, NO_CARD), (ARCH, DATA)),
}
"""A call -> what is said to be missing, why, and what the example adds to the call."""

WHOLE = (
    "attack digits-plain --eps 0.1",
    "certify net.pt --arch linear --data digits --eps 0.1",
    "norms net.pt --arch torchvision:resnet18",
    "norms net.pt --arch timm:resnet18",
    "norms torchvision:resnet18",
    "export digits-plain x.onnx",
    "verify --instances i.csv",
    "gate net.pt",
    "gate",
    "attack nowhere.pt --eps 1",
)
"""Calls that lack nothing, as far as can be known before anything is loaded."""


RUN = (
    "attack net.pt",
    "attack net.pt --n 4 --norm linf",
    "certify net.pt --method gap",
    "norms net.pt",
    "export net.pt net.onnx",
)
"""Calls whose example needs nothing that is not made here."""


@pytest.fixture
def folder(call: Call, tmp_path: Path) -> Path:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    torch.jit.save(torch.jit.script(net.eval()), str(tmp_path / "script.pt"))
    np.savez(tmp_path / "images.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.arange(4))
    (tmp_path / "p.vnnlib").write_text("")
    return tmp_path


def context(line: str) -> Any:
    words = shlex.split(line)
    return ROOT.commands[words[0]].make_context(words[0], words[1:], parent=typer.Context(ROOT, info_name="robcert"))


@pytest.mark.parametrize("line", CALLS)
def test_all_that_is_missing_and_only_that(call: Call, folder: Path, line: str) -> None:
    listed, reasons, added = CALLS[line]
    answer = call(*shlex.split(line))
    says(answer, 2, f"robcert: error: {listed}")
    found, example = answer.err.strip().splitlines()
    assert all(reason in found for reason in reasons)
    assert found.count(";") == max(0, len(reasons) - 1)
    assert all(f" {words}" in example for words in added)
    whole = example.removeprefix("Example: robcert ")
    assert len(whole.split()) == len(line.split()) + 2 * len(added), "the call itself, and what it lacked"
    for done in (check, check_missing):
        done(context(whole))  # it lacks nothing, and nothing in it has no effect


@pytest.mark.parametrize("line", WHOLE)
def test_a_whole_call_lacks_nothing(folder: Path, line: str) -> None:
    check_missing(context(line))


def test_every_command_that_loads_a_model_is_tried() -> None:
    loading = {name for name, command in ROOT.commands.items() if any(p.name == "arch" for p in command.params)}
    assert {line.split()[0] for line in CALLS} == loading


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_the_example_runs_on_a_network_of_that_kind(call: Call, folder: Path, line: str) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18(num_classes=10).state_dict(), folder / "net.pt")
    np.savez(
        folder / "images.npz", x=np.random.default_rng(0).random((30, 3, 32, 32), np.float32), y=np.arange(30) % 10
    )
    quick = {"attack": "--n 2 --plan pgd:2", "certify": "--n 2"}.get(line.split()[0], "")
    example = call(*shlex.split(line)).err.strip().splitlines()[-1].removeprefix("Example: robcert ")
    answer = call(*shlex.split(f"{example} {quick if '--n' not in example else ''}"))
    assert answer.code == 0, answer.err
