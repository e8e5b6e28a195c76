"""`robcert runs`: what is stored is listed and can be removed; what is no run is left alone."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from .conftest import Call


def stored(folder: Path, name: str, spec: dict[str, Any], record: dict[str, Any] | None = None) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps(spec))
    if record is not None:
        (place / "record.json").write_text(json.dumps(record))
    return place


DATA = {"name": "digits", "n": 10}
ATTACK = {
    "command": "attack",
    "threat": {"norm": "linf", "eps": [0.1, 0.2]},
    "data": DATA,
    "models": [{"name": "one"}, {"name": "two"}],
}
FOUND = {
    "n": 10, "natural_correct": 9, "certificate": {}, "stopped": None,
    "verdicts": {"wrong": [1, 1], "broken": [2, 5], "certified": [4, 3], "open": [3, 1]},
}  # fmt: skip
CERTIFY = {
    "command": "certify",
    "options": {"threat": {"norm": "l2", "eps": [0.5]}},
    "data": [DATA],
    "models": [{"name": "three"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three runs and a folder that is none."""
    stored(tmp_path, "a", ATTACK, {"models": [FOUND]})
    stored(tmp_path, "b", CERTIFY, {"models": [{"images": [0] * 10, "natural_correct": 8, "certified_correct": 7}]})
    stored(tmp_path, "c", {"command": "attack", "models": 3})
    (tmp_path / "no-run").mkdir()
    return tmp_path


def listed(call: Call, *arguments: object) -> list[dict[str, Any]]:
    answer = call("runs", *arguments, "--format", "json")
    assert answer.code == 0
    return json.loads(answer.out)["runs"]


def test_rows_say_what_the_records_say(folder: Path, call: Call) -> None:
    one, two, three, unreadable = listed(call, folder, "--sort", "name")
    assert (one["model"], one["norm"], one["eps"], one["state"]) == ("one", "linf", 0.2, "finished")
    assert (one["natural"], one["attacked"], one["certified"], one["open"]) == (0.9, 0.4, 0.3, 1)
    assert (two["model"], two["state"], two["attacked"]) == ("two", "unfinished", None)
    assert (three["command"], three["eps"], three["certified"], three["natural"]) == ("certify", 0.5, 0.7, 0.8)
    assert unreadable["state"] == "unreadable"
    assert "40.0 %" in call("runs", folder).out


def test_filters_and_orders(folder: Path, call: Call) -> None:
    assert [run["model"] for run in listed(call, folder, "--command", "attack", "--sort", "model")] == ["one", "two"]
    assert [run["model"] for run in listed(call, folder, "--norm", "l2")] == ["three"]
    assert [run["model"] for run in listed(call, folder, "--model", "tw")] == ["two"]
    assert [run["model"] for run in listed(call, folder, "--sort", "certified")][:2] == ["three", "one"]
    os.utime(folder / "b" / "run.json", (2e9, 2e9))
    assert listed(call, folder)[0]["model"] == "three"
    assert [run["model"] for run in listed(call, folder / "b")] == ["three"]


def test_removing_takes_runs_alone(folder: Path, call: Call, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = stored(tmp_path_factory.mktemp("outside"), "a", ATTACK)
    (folder / "link").symlink_to(outside)
    for name in ("no-run", "missing", outside, "link", ".."):
        assert call("runs", folder, "--remove", "b", "--remove", name, "--yes").code == 2
    assert (folder / "b").is_dir(), "all or none"
    assert (outside / "run.json").is_file()
    assert call("runs", folder, "--remove", "b", "--remove", folder / "c", "--yes").code == 0
    assert sorted(place.name for place in folder.iterdir()) == ["a", "link", "no-run"]


def test_nothing_is_removed_unasked(folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert call("runs", folder, "--remove", "a").code == 130
    assert (folder / "a").is_dir()


def test_bad_names(folder: Path, call: Call) -> None:
    assert call("runs", folder / "nowhere").code == 2
    answer = call("runs", folder, "--sort", "nwest")
    assert answer.code == 2
    assert "newest" in answer.err
