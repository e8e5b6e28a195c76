"""What an attack has found is in the record before anything else is done: storing, checking and drawing may fail."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import toy

import robcert
from robcert.errors import EvaluationError
from robcert.runs import runner
from robcert.runs.reporter import Silent
from robcert.runs.run_reader import read_record
from robcert.types import Dataset, LoadedModel, Threat

THREAT = Threat("l2", (0.4,))
PLAN = "pgd:5,pgd:10"
CLI = "from robcert.cli.main import _run; raise SystemExit(_run({arguments!r}))"


def arguments(directory: Path) -> list[str]:
    return ["attack", "digits-plain", "--eps", "0.4", "--plan", PLAN, "--n", "12", "--threads", "1",
            "--search-precision", "float32", "--run", str(directory)]  # fmt: skip


def python(*lines: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=cwd, check=False
    )


def fails_with(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("step", ["write_network", "write_examples", "check_unbounded"])
@pytest.mark.parametrize(
    "error",
    [
        EvaluationError("torch cannot export it"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError(""),
        RecursionError("maximum recursion depth exceeded"),
    ],
    ids=["refused", "full", "silent", "deep"],
)
def test_whatever_fails_after_the_attack(
    step: str, error: Exception, model: LoadedModel, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = robcert.attack(model, data, THREAT, PLAN, certify="none", run=tmp_path / "whole")
    monkeypatch.setattr(runner, step, fails_with(error))
    record = robcert.attack(model, data, THREAT, PLAN, certify="none", run=tmp_path / "r")
    assert record.models[0].images == whole.models[0].images
    assert len(record.models[0].missing) == 1
    assert (str(error) or "RuntimeError") in record.models[0].missing[0]
    assert read_record(tmp_path / "r") == record
    monkeypatch.undo()
    again = robcert.attack(model, data, THREAT, PLAN, certify="none", run=tmp_path / "r")
    assert again.models[0].missing == [], "the same command mends what was missing"
    assert again.models[0].images == whole.models[0].images


def test_a_disk_that_is_full_when_the_network_is_stored(
    model: LoadedModel, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = fails_with(OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr("robcert.network.export.write_model", full)
    record = robcert.attack(model, data, THREAT, PLAN, certify="none", run=tmp_path / "r")
    assert "No space left" in record.models[0].missing[0]
    assert not list((tmp_path / "r").glob("*network*")), "half a file would be taken for a whole one"
    assert read_record(tmp_path / "r") == record


def test_killed_while_the_network_is_stored(tmp_path: Path) -> None:
    command = arguments(tmp_path / "r")
    done = python(
        "import os, signal",
        "from robcert.runs import runner",
        "runner.write_network = lambda *_: os.kill(os.getpid(), signal.SIGKILL)",
        CLI.format(arguments=command),
        cwd=tmp_path,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(read_record(tmp_path / "r").models[0].images) == 12
    shown = python(CLI.format(arguments=["report", str(tmp_path / "r"), "--output", "page.html"]), cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "digits-plain" in (tmp_path / "page.html").read_text()
    assert python(CLI.format(arguments=command), cwd=tmp_path).returncode == 0
    assert list((tmp_path / "r").glob("network-*.pt2")), "the same command goes on to store it"


class Once(nn.Module):
    """A classifier that raises from its call number ``after`` on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls, self.after = 0, 10**9

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > self.after:
            raise RuntimeError("no answer any more")
        return self.inner(x)


def test_a_leg_that_fails_leaves_those_before_it(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    module = Once(model.module)
    broken = toy(module, (1, 8, 8), 10)
    options: dict[str, Any] = {"certify": "none", "search_precision": "float32", "cpu_threads": 1}
    robcert.attack(broken, data, THREAT, "pgd:5", **options)
    enough = module.calls + 20
    module.calls, module.after = 0, enough
    with pytest.raises(Exception, match="no answer any more"):
        robcert.attack(broken, data, THREAT, "pgd:5,pgd:100", run=tmp_path / "r", **options)
    (record,) = read_record(tmp_path / "r").models
    assert record.stopped is not None
    assert "leg 2 of 2" in record.stopped
    assert [leg.iterations for leg in record.legs] == [5]


def test_a_model_that_fails_leaves_those_before_it(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    nowhere = toy(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8), 10)
    nowhere.module[1].weight.data.fill_(torch.nan)  # pyright: ignore
    with pytest.raises(EvaluationError, match="NaN"):
        robcert.attack([model, nowhere], data, THREAT, PLAN, certify="none", run=tmp_path / "r")
    assert [one.name for one in read_record(tmp_path / "r").models] == [model.name]


def test_another_runtime_that_fails_leaves_the_table(tmp_path: Path) -> None:
    command = [*arguments(tmp_path / "r"), "--verify-with", "onnxruntime", "--format", "json"]
    done = python(
        "from robcert.network import deployed",
        "from robcert.errors import EvaluationError",
        "def fail(*_): raise EvaluationError('cannot be written as ONNX')",
        "deployed.Deployed.__init__ = fail",
        CLI.format(arguments=command),
        cwd=tmp_path,
    )
    assert done.returncode == 3
    assert "cannot be written as ONNX" in done.stderr
    assert len(json.loads(done.stdout)["models"][0]["images"]) == 12


class Branching(nn.Module):
    """A classifier that torch cannot export: it decides by a value."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * (2 if bool(x.max() > 2) else 1)


class Listening(Silent):
    """Remembers the order of what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(f"note: {text}")

    def leg(self, model: str, leg: Any, work: int) -> None:
        self.told.append(f"leg: {leg}")


@pytest.mark.parametrize("certify", ["none", "gap"])
def test_what_cannot_be_stored_is_said_before_the_first_leg(
    certify: str, model: LoadedModel, data: Dataset, tmp_path: Path
) -> None:
    reporter = Listening()
    branching = toy(Branching(model.module), (1, 8, 8), 10)
    record = robcert.attack(
        branching,
        data,
        THREAT,
        PLAN,
        certify=certify,
        run=tmp_path / "r",
        reporter=reporter,
        search_precision="float32",
    )
    whole = robcert.attack(model, data, THREAT, PLAN, certify="none", search_precision="float32")
    held = {"open", "certified"}
    for image, other in zip(record.models[0].images, whole.models[0].images, strict=True):
        assert image.status == other.status or {image.status, other.status} == held
    assert [told.split(":")[0] for told in reporter.told] == ["note", "leg", "leg"]
    assert "not stored" in reporter.told[0]
    assert [f"note: {text}" for text in record.models[0].missing] == reporter.told[:1], "said once"
    assert (tmp_path / "r" / f"adversarials-{branching.name}.safetensors").exists()
    assert read_record(tmp_path / "r") == record
