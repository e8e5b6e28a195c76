"""A run of certify, jacobian or detect that is killed again and again ends with the record of an undisturbed run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import robcert
from robcert.certificates import certificates, join
from robcert.errors import EvaluationError, UsageError
from robcert.runs import task
from robcert.runs.certified import packed, unpacked
from robcert.runs.directory import RunDirectory
from robcert.runs.records import Record
from robcert.types import Threat


class Killed(BaseException):
    """Nothing that follows is done."""


def _timeless(record: Record) -> Any:
    content = json.loads(record.to_json())
    for model in content.get("models", ()):
        for one in (model, *model.get("steps", ())):
            one.pop("seconds", None)
    return content


def _survives(run: Callable[[Path | None], Record], folder: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    monkeypatch.setattr(task, "BLOCK", 4)
    whole = run(folder / "whole")
    keep = RunDirectory.keep_part
    kept: list[str] = []

    def kill(self: RunDirectory, key: str, content: Any) -> None:
        keep(self, key, content)
        kept.append(key)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "keep_part", kill)
        for _ in range(times):
            with pytest.raises(Killed):
                run(folder / "killed")
    assert len(set(kept)) == times, "every call goes on where the one before it was killed"
    assert _timeless(run(folder / "killed")) == _timeless(whole)
    for name in ("whole", "killed"):
        assert json.loads((folder / name / "record.json").read_text())["schema"].startswith("robcert.")


@pytest.mark.parametrize("method", ["best", "smoothing"])
def test_certify_killed_five_times(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = robcert.load_model("digits-l2nnn"), robcert.load_dataset("digits", n=24)
    threat, options = Threat("l2", (0.1, 0.3)), {"samples": 200.0}

    def run(directory: Path | None) -> Record:
        return robcert.certify(
            model, data, threat, method, time_per_image=None, options=options, run=directory, cpu_threads=1
        )

    _survives(run, tmp_path, monkeypatch, 5)
    alone, blocks = run(None).models[0], run(tmp_path / "whole").models[0]  # type: ignore[attr-defined]
    assert blocks.certified_correct == alone.certified_correct
    assert blocks.constants.keys() == alone.constants.keys()


def test_jacobian_killed_five_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = robcert.load_model("digits-plain"), robcert.load_dataset("digits", n=24)
    monkeypatch.setattr("robcert.runs.jacobian.BLOCK", 4)
    _survives(lambda run: robcert.jacobian(model, data, run=run, cpu_threads=1), tmp_path, monkeypatch, 5)


def test_detect_killed_five_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = robcert.load_model("digits-plain"), robcert.load_dataset("digits", n=100)
    monkeypatch.setattr("robcert.runs.detect.BLOCK", 4)

    def run(directory: Path | None) -> Record:
        plan = "pgd:3,evasive-cw:5"
        return robcert.detect(model, data, plan, calibration=60, attacked=12, run=directory, cpu_threads=1)

    _survives(run, tmp_path, monkeypatch, 5)
    alone, blocks = run(None), run(tmp_path / "whole")
    for one, other in zip(alone.attacks, blocks.attacks, strict=True):  # type: ignore[attr-defined]
        assert (one.found, one.detected, one.backwards) == (other.found, other.detected, other.backwards)


def test_a_directory_belongs_to_one_command_and_one_specification(tmp_path: Path) -> None:
    model, data, threat = robcert.load_model("digits-l2nnn"), robcert.load_dataset("digits", n=4), Threat("l2", (0.1,))
    robcert.certify(model, data, threat, "gap", run=tmp_path / "c")
    with pytest.raises(UsageError, match="goal: there decide, here radius"):
        robcert.certify(model, data, threat, "gap", goal="radius", run=tmp_path / "c")
    with pytest.raises(UsageError, match="a run of robcert certify, not of robcert jacobian"):
        robcert.jacobian(model, data, run=tmp_path / "c")
    with pytest.raises(UsageError, match="a run of robcert certify, not of robcert attack"):
        robcert.attack(model, data, threat, "pgd:1", run=tmp_path / "c")
    robcert.attack(model, data, threat, "pgd:1", run=tmp_path / "a")
    with pytest.raises(UsageError, match="a run of robcert attack") as refused:
        robcert.certify(model, data, threat, "gap", run=tmp_path / "a")
    assert "--attacks" in refused.value.do
    assert "sections" in robcert.report([tmp_path / "c"], tmp_path / "page.html")


def test_parts_of_certificates_come_back_whole() -> None:
    model, data = robcert.load_model("digits-plain"), robcert.load_dataset("digits", n=6)
    found = certificates.get("gap")(model, data.x, data.y, "l2")
    again = join([unpacked(packed(found))])
    assert torch.equal(again.radius, found.radius)
    assert again.constants == found.constants
    assert join([found, found]).binding == found.binding * 2


@pytest.mark.parametrize("damage", ["another", "a bit", "gone"])
def test_a_part_that_is_not_what_was_written_is_no_result(damage: str, tmp_path: Path) -> None:
    """A flipped bit of a stored radius would be a wrong certificate."""
    model, data, threat = robcert.load_model("digits-l2nnn"), robcert.load_dataset("digits", n=4), Threat("l2", (0.1,))
    robcert.certify(model, data, threat, "gap", run=tmp_path)
    (part,) = tmp_path.glob("part-*")
    if damage == "another":
        save_file({"x": torch.zeros(1)}, part, metadata={"robcert": "{}"})
    elif damage == "a bit":
        content = bytearray(part.read_bytes())
        content[-1] ^= 1
        part.write_bytes(content)
    else:
        part.unlink()
    with pytest.raises(EvaluationError, match="missing or damaged"):
        robcert.certify(model, data, threat, "gap", run=tmp_path)
