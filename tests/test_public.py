"""The public functions of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import robcert
from robcert.network import export_onnx, load_model

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


RUN = """
import sys
import robcert
from robcert.cli.main import _run
{}
found = {{name for name in sys.modules if '.' not in name}}
assert not {!r} & found, {!r} & found
"""
ONNX = {"onnx", "onnxscript", "onnxruntime"}
NO_TORCH = ONNX | {"torch", "torchvision", "scipy", "sklearn", "matplotlib"}


def in_a_fresh_process(code: str, absent: set[str], folder: Path) -> None:
    command = [sys.executable, "-c", RUN.format(code, absent, absent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "",
        "assert _run(['--help']) == 0",
        "assert _run(['models']) == 0",
        "assert _run(['gate', '--policy', 'p.toml']) == 2",
    ],
)
def test_what_reads_no_network_needs_no_torch(tmp_path: Path, code: str) -> None:
    typo = '[gate]\nmodels = ["digits-plain"]\n[[gate.require]]\nattacked_acuracy = 0.5\nnorm = "l2"\neps = 0.5\n'
    (tmp_path / "p.toml").write_text(typo)
    in_a_fresh_process(code, NO_TORCH, tmp_path)


def test_a_package_is_imported_where_it_is_used(tmp_path: Path) -> None:
    """scikit-learn brings the digits and nothing else; ONNX needs its packages where there is an ONNX file."""
    np.savez(tmp_path / "images.npz", x=np.random.default_rng(0).random((4, 1, 8, 8), np.float32), y=np.arange(4))
    threat = "'--data', 'npz:images.npz', '--norm', 'l2', '--eps', '9', '--plan', 'pgd:3'"
    attack = f"assert _run(['attack', {{!r}}, {threat}]) == 0"
    detect = "from robcert.sensitivity import detection"
    in_a_fresh_process(attack.format("digits-plain") + f"\n{detect}", ONNX | {"sklearn", "torchvision"}, tmp_path)
    write = "robcert.export('digits-plain', 'model.pt2')"
    in_a_fresh_process(write, ONNX | {"sklearn", "torchvision"}, tmp_path)
    export_onnx(load_model("digits-plain"), tmp_path / "model.onnx")
    in_a_fresh_process(attack.format("model.onnx"), {"onnxscript", "sklearn", "torchvision"}, tmp_path)
