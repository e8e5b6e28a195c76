"""A finished run is read from its record; one that lacks something is done again where it lacks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robcert import attack
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.runs import execute
from robcert.runs.record import RunRecord
from robcert.types import Threat


def run(folder: Path) -> RunRecord:
    data, threat = load_dataset("digits", n=8), Threat("linf", (0.05,))
    return attack(load_model("digits-plain"), data, threat, "pgd:5", certify="none", run=folder, cpu_threads=1)


class Refused:
    """Stands for what executes runs."""

    def __init__(self, *_: object) -> None:
        raise AssertionError("executed")


def test_nothing_is_executed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path / "a")
    monkeypatch.setattr(execute, "Runner", Refused)
    assert run(tmp_path / "a") == first
    moved = (tmp_path / "a").rename(tmp_path / "b")
    assert run(moved) == first.model_copy(update={"run": str(moved)})


LOST = [
    "record.json", "network-digits-plain.pt2", "adversarials-digits-plain.safetensors",
    "beyond-digits-plain.safetensors", "record.json changed", "another version",
]  # fmt: skip


@pytest.mark.parametrize("lost", LOST)
def test_what_is_lost_is_made_again(lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path)
    path = tmp_path / lost.partition(" ")[0]
    if lost == "another version":
        monkeypatch.setattr(execute, "__version__", "0.0.1")
    elif lost.endswith("changed"):
        path.write_text(path.read_text().replace("open", "broken"))
    else:
        path.unlink()
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="executed"):
        patch.setattr(execute, "Runner", Refused)
        run(tmp_path)
    again = run(tmp_path)
    assert again.models[0].images == first.models[0].images
    assert all((tmp_path / name).is_file() for name in LOST[:4])
