"""`robcert attacks`, `certificates` and `architectures` list what is registered, one line each."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from robcert.attacks import attacks
from robcert.certificates import certificates
from robcert.cli.main import _run
from robcert.nn import architectures


@pytest.mark.parametrize(
    ("command", "registered"), [("attacks", attacks), ("certificates", certificates), ("architectures", architectures)]
)
def test_everything_is_listed(command: str, registered: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run([command, "--format", "json"]) == 0
    (listed,) = (value for value in json.loads(capsys.readouterr().out).values() if isinstance(value, list))
    assert {entry["name"] for entry in listed} >= set(registered.names())  # type: ignore[attr-defined]
    assert all(entry["summary"] for entry in listed)
    assert _run([command]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in registered.names())  # type: ignore[attr-defined]


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "robcert", "attacks"], capture_output=True, text=True, check=True)
    assert "pgd-t" in done.stdout
