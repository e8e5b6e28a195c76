"""Radii, statuses and distances of a network of the zoo are those that were recorded, to a relative 1e-3.

`benchmarks/reference.py compare` asks for the last bit, which is that of one machine.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_tenth_of_the_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(tmp_path)
    reference = importlib.import_module("reference")
    stored = json.loads(Path(__file__).with_name("reference.json").read_text())
    assert {case.name for case in reference.tenth()} == set(stored["cases"])
    assert sum("images" in found for found in stored["cases"].values()) >= 15
    different = {}
    for case in reference.tenth():
        before = stored["cases"][case.name]
        lines = reference.differences(before, reference.found_by(case, few=True), False)
        if lines:
            different[case.name] = lines
    assert not different


def test_a_difference_is_seen() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        reference = importlib.import_module("reference")
    finally:
        sys.path.pop(0)
    before = {"images": [[3, "broken", 0.25], [4, "open", 0.5]], "examples": "a"}
    nearly = {"images": [[3, "broken", 0.25 + 2**-40], [4, "open", 0.5]], "examples": "b"}
    assert reference.differences(before, before, True) == []
    assert reference.differences(before, nearly, False) == []
    assert len(reference.differences(before, nearly, True)) == 2
    assert len(reference.differences(before, {**before, "images": [[3, "open", 0.25], [4, "open", 0.5]]}, False)) == 1
    assert reference.differences(before, {"refused": "no"}, False)
