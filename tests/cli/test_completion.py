"""What the shell offers: the names that are registered, by the installed command, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robcert.attacks import attacks
from robcert.certificates import certificates
from robcert.cli import completion
from robcert.data import datasets
from robcert.network.zoo import zoo_names
from robcert.nn import architectures
from robcert.runs.plan import NAMED
from robcert.threats import threats

LINES = {
    "attack digits-": [name for name in zoo_names() if name.startswith("digits-")],
    "attack digits-plain --norm l": threats.names(),
    "certify x --method ib": ["ibp"],
    "jacobian x --data fo": ["folder:"],
    "attack x --plan cw:100,fg": ["cw:100,fgsm:"],
}


@pytest.mark.parametrize("line", LINES)
def test_the_installed_command_completes(line: str) -> None:
    words = {
        "_ROBCERT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"robcert {line}",
        "COMP_CWORD": str(len(line.split())),
    }
    command = Path(sys.executable).with_name("robcert")
    done = subprocess.run([command], env={**os.environ, **words}, capture_output=True, text=True, check=False)
    assert sorted(done.stdout.split()) == sorted(LINES[line]), done.stderr


def test_names_are_those_that_are_registered() -> None:
    assert completion.attacks("") == attacks.names()
    assert completion.certificates("") == certificates.names()
    assert completion.certificates("gap,b") == ["gap,bab", "gap,best"]
    assert completion.norms("") == threats.names()
    assert completion.models("") == zoo_names()
    assert completion.architectures("") == architectures.names()
    assert completion.data_sets("") == sorted(f"{name}:" if one.from_path else name for name, one in datasets.items())
    assert completion.plans("") == sorted([*NAMED, *(f"{name}:" for name in attacks.names())])
    assert completion.plans("cw:100,") == sorted(f"cw:100,{name}:" for name in attacks.names())
    assert completion.among("a", "b")("b") == ["b"]


def test_no_completion_imports_torch() -> None:
    names = "attacks certificates norms data_sets plans models architectures"
    code = (
        "import sys\n"
        "from robcert.cli import completion\n"
        f"for name in {names!r}.split():\n"
        "    assert getattr(completion, name)('')\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
