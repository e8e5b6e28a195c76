"""Help: quick because it needs no torch, and with a worked example for every command."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import typer

from robcert.certificates import certificates
from robcert.cli.main import app
from robcert.registry import written_names

from .conftest import Call

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_no_help_imports_torch() -> None:
    code = (
        "import sys\n"
        "from robcert.cli.main import _run\n"
        f"for command in [[], *([c] for c in {COMMANDS!r})]:\n"
        "    assert _run([*command, '--help']) == 0\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'scipy', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_worked_example(call: Call, command: str) -> None:
    answer = call(command, "--help")
    assert answer.code == 0
    assert "Example" in answer.out
    assert re.search(rf"robcert {command}\b", answer.out)


def test_help_version_and_nothing(call: Call) -> None:
    assert re.fullmatch(r"robcert \d+\.\d+\.\d+\S*\n", call("--version").out)
    shown = call("--help").out
    for command in COMMANDS:
        assert command in shown
    assert "Exit codes" in shown
    bare = call()
    assert "Usage" in bare.out + bare.err


def test_help_names_every_certificate(call: Call) -> None:
    """Read from the files, where no help imports torch."""
    shown = " ".join(call("certify", "--help").out.split())
    assert written_names("robcert.certificates", "certificate") == certificates.names()
    assert all(name in shown for name in certificates.names())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short_and_whole_in_a_narrow_terminal(
    call: Call, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    before = call(command, "--help").out
    monkeypatch.setenv("COLUMNS", "80")
    shown = call(command, "--help").out
    lines = shown.splitlines()
    assert len(lines) <= 100
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in shown, "nothing is cut"
    monkeypatch.setenv("COLUMNS", "120")
    assert call(command, "--help").out == before, "a help leaves the command as it is"
