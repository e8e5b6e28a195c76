"""A reader that leaves, and a disk that is full: what the shell sees of stdout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import environment

_POLICY = (
    '[gate]\nmodels = ["digits-l2nnn"]\ndata = "digits"\nn = 50\n'
    '[[gate.require]]\nname = "{name}"\nnorm = "l2"\neps = {eps}\nattacked_accuracy = 0.8\nplan = "pgd:10"\n'
)


def left(command: str, folder: Path) -> tuple[int, str]:
    """The exit code and stderr of a command whose reader has left before it says anything."""
    process = subprocess.Popen(
        ["robcert", *command.split()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    return process.wait(), said


@pytest.mark.parametrize("command", ["models", "models --format json", "norms digits-plain", "--version"])
def test_a_reader_that_leaves_is_no_error(command: str, tmp_path: Path) -> None:
    code, said = left(command, tmp_path)
    assert code == 0
    assert "error" not in said.lower()


@pytest.mark.parametrize(("eps", "code"), [(0.1, 0), (1.5, 1)], ids=["passed", "failed"])
def test_the_gate_keeps_its_verdict_and_its_files(eps: float, code: int, tmp_path: Path) -> None:
    (tmp_path / "robcert.toml").write_text(_POLICY.format(name="r", eps=eps))
    assert left("gate --save junit=out.xml", tmp_path)[0] == code
    assert (tmp_path / "out.xml").read_text().count("<testcase") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", ["models", "norms digits-plain"])
def test_a_full_disk_is_said(command: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            ["robcert", *command.split()], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env=environment(), check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert "No space left" in done.stderr
    assert "defect" not in done.stderr
