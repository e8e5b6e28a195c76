"""A fresh repository with a model, a policy and the documented action, run by hand as CI would run it."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import robcert

_ROOT = Path(__file__).parents[2]
_POLICY = """\
[gate]
models = ["model"]
data = "digits"
n = 200

[[gate.require]]
name = "robust at l2 0.1"
norm = "l2"
eps = 0.1
attacked_accuracy = {share}
plan = "pgd:10"
"""


def _expression(text: str, context: dict[str, str]) -> str:
    """The few expressions that the action uses."""
    return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda match: context[match[1]], text)


def _run_action(repository: Path, inputs: dict[str, str]) -> tuple[int, dict[str, str], str, str]:
    """Every ``run`` step but the installation, in bash, with the environment that the runner gives.

    Steps that use another action are left to the runner.
    """
    action: dict[str, Any] = yaml.safe_load((_ROOT / "action.yml").read_text())
    context = {"github.action_path": str(_ROOT)}
    for name, declared in action["inputs"].items():
        context[f"inputs.{name}"] = str(inputs.get(name, declared["default"]))
    output, summary = repository / ".github_output", repository / ".github_summary"
    output.write_text("")
    code, log = 0, ""
    for step in action["runs"]["steps"]:
        if "uses" in step:
            continue
        assert "${{" not in step["run"], "an expression in a script is an injection"
        if step["name"] == "Install":
            constraints = '"$ROBCERT_SOURCE/constraints.txt"'
            assert step["run"] == f'python -m pip install --quiet -c {constraints} "$ROBCERT_SOURCE"'
            assert (_ROOT / "constraints.txt").is_file()
            assert _expression(step["env"]["ROBCERT_SOURCE"], context) == str(_ROOT)
            continue
        env = {name: _expression(value, context) for name, value in step["env"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        more = {"PATH": path, "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), "OMP_NUM_THREADS": "1"}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(
            command, cwd=repository, env={**os.environ, **env, **more}, capture_output=True, text=True, check=False
        )
        code, log = done.returncode, done.stdout + done.stderr
    found = dict(line.split("=", 1) for line in output.read_text().splitlines())
    return code, found, log, summary.read_text() if summary.exists() else ""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    shutil.copytree(_ROOT / "models" / "digits-l2nnn", tmp_path / "model")
    return tmp_path


def test_a_policy_that_holds(repository: Path) -> None:
    (repository / "robcert.toml").write_text(_POLICY.format(share=0.8))
    code, outputs, log, summary = _run_action(repository, {})
    assert code == 0, log
    assert outputs == {"verdict": "proven", "report": "robcert-gate"}
    report = repository / outputs["report"]
    assert json.loads((report / "gate.json").read_text())["requirements"][0]["backwards"] == 0
    assert ElementTree.parse(report / "gate.xml").getroot().attrib["failures"] == "0"
    assert json.loads((report / "gate.sarif").read_text())["runs"][0]["results"] == []
    assert "<title>robcert gate</title>" in (report / "gate.html").read_text()
    assert "**proven**" in summary


def test_a_policy_that_does_not_and_a_hostile_input(repository: Path) -> None:
    (repository / "robcert.toml").write_text(_POLICY.format(share=0.999).replace("n = 200\n", ""))
    code, outputs, log, summary = _run_action(repository, {})
    assert (code, outputs["verdict"]) == (1, "failed"), log
    assert log.count("::error file=robcert.toml,line=5,") == 1
    assert "not passed" in summary
    code, outputs, log, _ = _run_action(repository, {"model": "$(touch owned); `touch owned`\n--help"})
    assert (code, outputs["verdict"]) == (2, ""), log
    assert not (repository / "owned").exists()


def test_the_runs_that_are_cached_are_those_of_the_gate() -> None:
    """The action caches the folder in which the gate of its last step keeps its runs, after the installation."""
    steps: list[dict[str, Any]] = yaml.safe_load((_ROOT / "action.yml").read_text())["runs"]["steps"]
    used = [step.get("uses", step["name"]).split("@")[0] for step in steps]
    assert used == ["Install", "actions/cache", "Gate"]
    assert "--runs" not in steps[-1]["run"]
    assert steps[1]["with"]["path"] == inspect.signature(robcert.gate).parameters["runs"].default
