"""The public functions of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import robcert

_IMPORT_ALL = """
import importlib, pkgutil, types
import robcert
for module in pkgutil.walk_packages(robcert.__path__, "robcert."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
wrong = [name for name in robcert.FUNCTIONS if not isinstance(getattr(robcert, name), types.FunctionType)]
assert not wrong, wrong
assert not [name for name in robcert.FUNCTIONS if getattr(robcert, name).__name__ != name]
"""


def test_a_public_name_is_a_function_whatever_has_been_imported() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", robcert.FUNCTIONS)
def test_a_public_function_says_what_it_takes_gives_and_refuses(name: str) -> None:
    documented = getattr(robcert, name).__doc__ or ""
    for part in ("Args:", "Returns:", "Raises:"):
        assert part in documented, f"robcert.{name} has no {part}"


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = "import sys, robcert, robcert.cli.main; assert not {'torch', 'scipy', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
