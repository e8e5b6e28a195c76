"""`robcert certify` and `robcert jacobian`, killed with SIGKILL again and again: the record of an undisturbed run."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Robcert, environment

COMMANDS = {
    "certify": "--method best --norm linf --eps 0.01,0.02 --time-per-image 1000",
    "jacobian": "",
}
SMALL = [("jacobian", 18, (1,))]
WHOLE = [("certify", 100, (0, 1, 2, 4, 6)), ("jacobian", 100, (0, 1, 3, 5, 7))]
"""Commands, images, and after how many finished parts of 16 images they are killed."""


def timeless(content: Any) -> Any:
    """Without anything that was measured by a clock."""
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if key != "seconds"}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def kill(arguments: list[str], run: Path, parts: int) -> None:
    """Begin, or go on with, a run, and kill it as soon as its directory holds so many parts."""
    command = subprocess.Popen(
        ["robcert", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=run.parent, env=environment()
    )
    while command.poll() is None:
        begun = (run / "run.sqlite").exists()
        if begun and len(list(run.glob("part-*"))) >= parts:
            break
        time.sleep(0.001)
    command.send_signal(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL, command.communicate()[1]


@pytest.mark.parametrize(
    ("name", "n", "after"), [*SMALL, *(pytest.param(*case, marks=pytest.mark.slow) for case in WHOLE)]
)
def test_killed(robcert: Robcert, tmp_path: Path, name: str, n: int, after: tuple[int, ...]) -> None:
    arguments = [name, "digits-at", *COMMANDS[name].split(), "--n", str(n), "--threads", "1", "--format", "json"]
    whole = robcert(*arguments, "--run", tmp_path / "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    for parts in after:
        kill([*arguments, "--run", str(killed)], killed, parts)
        assert not (killed / "record.json").exists()
        assert len(list(killed.glob("part-*"))) >= parts
    again = robcert(*arguments, "--run", killed, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert timeless(json.loads(again.stdout)) == timeless(json.loads(whole.stdout))
