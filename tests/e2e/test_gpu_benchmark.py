"""benchmarks/gpu.py runs where there is no GPU, and says so. (Its figures are only worth something on one.)"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .conftest import environment

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--no-peers", *arguments],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip


def test_without_a_gpu_the_figures_are_a_cpus() -> None:
    done = run("--quick", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["gpu"] is False
    steps = {step["what"]: step for step in found["steps"]}
    assert list(steps) == ["bare loop", "robcert pgd, linf", "robcert cw, l2", "robcert apgd, linf", "robcert ddn, l2"]
    assert steps["bare loop"]["ratio"] == 1
    assert {step["how"] for step in steps.values()} == {"launched"}
    counts = found["operators"]
    assert counts["bare loop"] < min(counts[name] for name in ("pgd", "cw", "apgd", "ddn"))
    long = found["million"]
    assert (long["images"], long["watched"], long["how"]) == (32, 40, "launched")
    assert long["hours"] == 1e6 * long["seconds"] / 3600 > 0


def test_a_number_of_steps_between_two_looks_is_refused() -> None:
    done = run("--steps", "15")
    assert done.returncode == 2
    assert "--steps 15: expected a multiple of 10" in done.stderr
