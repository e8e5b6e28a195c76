"""kill -9 at random moments, and Ctrl-C: the same command again ends with the verdicts of an undisturbed run."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Robcert, environment

COMMAND = ["attack", "digits-plain", "--eps", "0.5", "--plan", "cw:50,pgd:40x2,cw:200", "--n", "50", "--threads", "1",
           "--batch-size", "16", "--search-precision", "float32", "--checkpoint", "0.2",
           "--format", "json"]  # fmt: skip


def timeless(content: Any) -> Any:
    """Without anything that was measured by a clock."""
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if key != "seconds"}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def content(record: dict[str, Any]) -> dict[str, Any]:
    """All of a record but seconds and the name of the directory."""
    return {key: value for key, value in timeless(record).items() if key != "run"}


def start(folder: Path, run: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["robcert", *COMMAND, "--run", run],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(robcert: Robcert) -> dict[str, Any]:
    done = robcert(*COMMAND, "--run", "whole")
    assert done.returncode == 0, done.stderr
    return content(json.loads(done.stdout))


def survive(robcert: Robcert, folder: Path, whole: dict[str, Any], kills: int, seed: int) -> None:
    """Kill a command so many times, each at a random moment of its work, then let it end."""
    draw = random.Random(seed)
    run = f"killed-{seed}"
    died = 0
    for _ in range(4 * kills):
        process = start(folder, run)
        # Wait for the work to begin (torch takes its time to load), then for a random while.
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(draw.uniform(0, 1.5))
        died += process.poll() is None
        process.kill()
        process.communicate()
        if died == kills or (folder / run / "record.json").exists():
            break
    assert died >= 1
    again = robcert(*COMMAND, "--run", run)
    assert again.returncode == 0, again.stderr
    found = content(json.loads(again.stdout))
    assert found["models"][0]["images"] == whole["models"][0]["images"], "image by image, distances included"
    assert found == whole, "legs, counts, forwards and backwards included"
    assert not list((folder / run).glob("state-*"))


def test_kill_nine(robcert: Robcert, folder: Path, whole: dict[str, Any]) -> None:
    survive(robcert, folder, whole, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_kill_nine_twenty_times(robcert: Robcert, folder: Path, whole: dict[str, Any], seed: int) -> None:
    survive(robcert, folder, whole, kills=20, seed=seed)


@pytest.mark.parametrize("kind", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_saves(robcert: Robcert, folder: Path, whole: dict[str, Any], kind: signal.Signals) -> None:
    run = f"interrupted-{kind.name}"
    process = start(folder, run)
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(0.3)
    process.send_signal(kind)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert out == ""
    assert "interrupted" in err
    assert run in err
    assert "Run the same command again" in err
    assert "Traceback" not in err
    assert list((folder / run).glob("state-*"))
    again = robcert(*COMMAND, "--run", run)
    assert again.returncode == 0, again.stderr
    assert content(json.loads(again.stdout)) == whole
