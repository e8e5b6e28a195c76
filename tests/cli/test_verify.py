"""`robcert verify`: answers, the competition's files, interruptions, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from robcert.network import export_onnx, from_module

from .conftest import Call

BOX = "".join(f"(declare-const X_{i} Real)\n(assert (>= X_{i} 0.1))\n(assert (<= X_{i} 0.9))\n" for i in range(4))
OUTPUTS = "(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """f_0 = x_0 + x_1 and f_1 = x_2 - x_3 in two files, and properties with known answers in [0.1, 0.9]."""
    at = tmp_path_factory.mktemp("verify")
    for name in ("a", "b"):
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        net.load_state_dict({"1.weight": torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, -1]]), "1.bias": torch.zeros(2)})
        export_onnx(from_module(net, (1, 2, 2), 2, name=name), at / f"{name}.onnx")
    (at / "sat.vnnlib").write_text(BOX + OUTPUTS + "(assert (<= Y_0 Y_1))\n")
    (at / "unsat.vnnlib").write_text(BOX + OUTPUTS + "(assert (>= Y_0 1.9))\n")
    (at / "bad.vnnlib").write_text(BOX + OUTPUTS + "\n(assert (<= (* Y_0 Y_1) 1))\n")
    (at / "instances.csv").write_text("a.onnx,sat.vnnlib,20\n./b.onnx,unsat.vnnlib, 20.5\n")
    return at


def confirmed(text: str, net: Path) -> None:
    """The counterexample of a results file, executed with nothing of robcert."""
    word, _, pairs = text.partition("\n")
    assert word == "sat"
    values = {name: float(v) for name, v in (pair.strip("() \n").split() for pair in pairs.strip()[1:-1].split("\n"))}
    x = np.array([values[f"X_{i}"] for i in range(4)], np.float32)
    assert ((x >= 0.1) & (x <= 0.9)).all()
    session = onnxruntime.InferenceSession(net, providers=["CPUExecutionProvider"])
    y: Any = session.run(None, {session.get_inputs()[0].name: x.reshape(1, 1, 2, 2)})[0]
    assert y[0, 0] <= y[0, 1]
    assert [values["Y_0"], values["Y_1"]] == pytest.approx(y[0].tolist(), abs=1e-6)


def test_the_form_of_the_competition(folder: Path, call: Call, tmp_path: Path) -> None:
    net, out = str(folder / "a.onnx"), tmp_path / "result.txt"
    answer = call("verify", net, str(folder / "sat.vnnlib"), "--format", "vnncomp", "--output", str(out))
    assert answer.code == 0, answer.err
    confirmed(out.read_text(), folder / "a.onnx")
    assert call("verify", net, str(folder / "unsat.vnnlib"), "--format", "vnncomp").out == "unsat\n"


def test_several_models_are_named(folder: Path, call: Call) -> None:
    files = [str(folder / name) for name in ("a.onnx", "b.onnx", "unsat.vnnlib")]
    for form in ("console", "markdown", "html"):
        answer = call("verify", *files, "--format", form)
        assert answer.code == 0
        assert answer.out.count("unsat") >= 2
        assert all(f"{name}" in answer.out for name in "ab")
    found = json.loads(call("verify", *files, "--format", "json").out)
    assert [one["model"] for one in found["answers"]] == ["a", "b"]
    schema = Path(__file__).parents[2] / "docs" / "schemas" / "verify-1.json"
    jsonschema.validate(found, json.loads(schema.read_text()))


def test_instances_results_and_counterexamples(folder: Path, call: Call, tmp_path: Path) -> None:
    line = ["verify", "--instances", str(folder / "instances.csv"), "--results", str(tmp_path / "r.csv")]
    line += ["--counterexamples", str(tmp_path / "found"), "--run", str(tmp_path / "run")]
    answer = call(*line)
    assert answer.code == 0, answer.err
    assert "[1/2]" in answer.err
    assert "[2/2]" in answer.err
    rows = [row.split(",") for row in (tmp_path / "r.csv").read_text().splitlines()]
    assert [row[:5] for row in rows] == [
        [folder.name, "a.onnx", "sat.vnnlib", "0", "sat"],
        [folder.name, "./b.onnx", "unsat.vnnlib", "0", "unsat"],
    ]
    assert all(0 <= float(row[5]) < 20 for row in rows)
    (example,) = (tmp_path / "found").iterdir()
    confirmed(example.read_text(), folder / "a.onnx")
    before, written = (tmp_path / "run" / "record.json").read_text(), (tmp_path / "r.csv").read_text()
    assert call(*line).code == 0
    assert (tmp_path / "run" / "record.json").read_text() == before, "nothing is computed again"
    assert (tmp_path / "r.csv").read_text() == written
    assert call(*line, "--seed", "1").code == 2, "another specification"


def test_a_killed_run_goes_on(folder: Path, call: Call, tmp_path: Path) -> None:
    """kill -9 during the second answer: the first is not worked out again."""
    (tmp_path / "open.vnnlib").write_text(BOX + OUTPUTS + "(assert (<= (+ Y_0 Y_1) -0.6000002))\n")
    (tmp_path / "i.csv").write_text(f"{folder}/a.onnx,{folder}/sat.vnnlib,20\n{folder}/a.onnx,open.vnnlib,5\n")
    line = ["verify", "--instances", str(tmp_path / "i.csv"), "--plan", "noise:1M", "--run", str(tmp_path / "run")]
    line += ["--results", str(tmp_path / "r.csv")]
    run = [sys.executable, "-c", f"from robcert.cli.main import run; run({line!r})"]
    table = tmp_path / "r.csv"
    with subprocess.Popen(run, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while time.monotonic() < until and not (table.exists() and table.read_text()):
            time.sleep(0.05)
        process.kill()
    (first,) = table.read_text().splitlines()
    assert ",sat," in first
    assert call(*line).code == 0
    rows = table.read_text().splitlines()
    assert rows[0] == first, "the seconds that it took then"
    assert rows[1].split(",")[4] == "unknown"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.onnx", "bad.vnnlib"], "bad.vnnlib, line 16: (* Y_0 Y_1) multiplies two variables"),
        (["a.onnx"], "a model and a property are needed"),
        ([], "a model and a property are needed"),
        (["a.onnx", "sat.vnnlib", "--instances", "instances.csv"], "a model and a property are needed"),
        (["a.onnx", "sat.vnnlib", "--timeout", "0"], "a timeout is 0"),
        (["a.onnx", "sat.vnnlib", "--plan", "ddn:10"], "works in l2"),
        (["a.onnx", "sat.vnnlib", "--arithmetic", "reel"], "unknown arithmetic 'reel'"),
        (["a.onnx", "none.vnnlib"], "cannot be read"),
        (["--instances", "sat.vnnlib"], "sat.vnnlib, line 1:"),
    ],
)
def test_usage(folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str) -> None:
    monkeypatch.chdir(folder)
    answer = call("verify", *arguments)
    assert answer.code == 2
    assert says in answer.err


def test_the_old_flag_names_the_command(folder: Path, call: Call) -> None:
    answer = call("attack", str(folder / "a.onnx"), "--vnnlib", "p.vnnlib")
    assert answer.code == 2
    assert "robcert verify" in answer.err


def test_help_is_short(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = subprocess.run(
        [sys.executable, "-m", "robcert.cli.main", "verify", "--help"], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) <= 100
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
