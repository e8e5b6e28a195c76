"""docs/architecture.md: the picture is that of the imports, every room has its paragraph, every station exists."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from architecture import ROOT, direct, layers, rewritten

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WAYS = {way.partition("\n")[0]: re.findall(r"^\d+\. `([\w.]+)`", way, re.MULTILINE) for way in PAGE.split("\n## ")[2:]}


def test_the_picture_is_that_of_the_imports() -> None:
    assert rewritten(PAGE) == PAGE, "run: python benchmarks/architecture.py docs/architecture.md"


def test_an_import_that_leads_through_another_room_is_no_arrow() -> None:
    found = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset[str]()}
    assert direct(found) == {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset()}


def test_every_room_has_a_paragraph() -> None:
    rooms = PAGE.split("\n## ")[1]
    assert not [room for layer in layers() for room in layer if f"`{room}` " not in rooms]


def test_ways_are_short() -> None:
    assert len(WAYS) == 2 and all(3 <= len(stations) <= 8 for stations in WAYS.values())


@pytest.mark.parametrize("station", [station for stations in WAYS.values() for station in stations])
def test_a_station_exists(station: str) -> None:
    module, _, name = station.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
