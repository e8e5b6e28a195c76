"""A very long leg runs to its end and does not grow. (Its rate is printed by benchmarks/million.py.)"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import environment

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "million.py"


@pytest.mark.parametrize(
    ("iterations", "begin"),
    [(8_000, 2_000), pytest.param(1_000_000, 10_000, marks=pytest.mark.slow)],
)
def test_a_long_leg_does_not_grow(iterations: int, begin: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--iterations", str(iterations), "--begin", str(begin), "--json"],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["iterations"] == iterations
    assert found["open"] == found["images"] == 10, "images that stay open use their whole budget"
    assert found["memory_end_mb"] - found["memory_begin_mb"] < 50
