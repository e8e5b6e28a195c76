"""A folder in which the quick start has been run, command by command, through the installed console script."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from blocks import ROOT, SHELL, blocks


@dataclass(frozen=True)
class Done:
    """A command that has been run."""

    command: str
    code: int
    out: str
    err: str


def shell(command: str, folder: Path) -> Done:
    """Run a command as a person would, with the robcert of this environment first on the path."""
    names = {k: v for k, v in os.environ.items() if not k.startswith("ROBCERT_") and k != "PYTHONPATH"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    settings = {"PATH": path, "OMP_NUM_THREADS": "1", "HOME": str(folder), "COLUMNS": "120"}
    if "PYTHONPATH" in os.environ:
        settings["PYTHONPATH"] = os.environ["PYTHONPATH"]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**names, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return Done(command, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Done]]:
    """The folder, and what every block of the page did."""
    folder = tmp_path_factory.mktemp("quickstart")
    done: list[Done] = []
    for block in blocks(ROOT / "docs" / "quickstart.md", *SHELL):
        done.append(shell(block.commands, folder))
        if done[-1].code:
            break
    return folder, done
