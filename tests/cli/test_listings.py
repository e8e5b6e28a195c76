"""`robcert attacks`, `certificates` and `architectures` list what is registered, one line each."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from robcert.attacks import attacks
from robcert.certificates import certificates
from robcert.nn import architectures
from robcert.registry import Registry

from .conftest import Call


@pytest.mark.parametrize(
    ("command", "registered"), [("attacks", attacks), ("certificates", certificates), ("architectures", architectures)]
)
def test_everything_is_listed(command: str, registered: Registry[Any], call: Call) -> None:
    listed = json.loads(call(command, "--format", "json").out)[command]
    assert {entry["name"] for entry in listed} >= set(registered.names())
    assert all(entry["summary"] for entry in listed)
    said = call(command).out
    assert all(name in said for name in registered.names())


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "robcert", "attacks"], capture_output=True, text=True, check=True)
    assert "pgd-t" in done.stdout
