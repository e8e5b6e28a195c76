"""A run directory that robcert 0.1.0 wrote (``of_0_1_0``, without its network) is read, and not gone on with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import robcert
from robcert.cli.main import run as command_line
from robcert.errors import UsageError
from robcert.runs.directory import read_spec
from robcert.types import Threat

THREAT = Threat("l2", (0.3,))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).with_name("of_0_1_0"), tmp_path / "old"))


def test_report_compare_and_show(old: Path, tmp_path: Path) -> None:
    assert read_spec(old).format == 1
    robcert.report([old], tmp_path / "page.html")
    assert "digits-l2nnn" in (tmp_path / "page.html").read_text()
    (line,) = robcert.compare([old], gradients=False).lines
    assert sum(distance is not None for distance in line.distance) == 5
    with pytest.raises(SystemExit) as ended:
        command_line(["show", str(old), "--output", str(tmp_path / "examples.png")])
    assert ended.value.code == 0
    assert (tmp_path / "examples.png").stat().st_size > 0


def test_certify_and_jacobian_read_its_verdicts(old: Path) -> None:
    loaded, data = robcert.load_model("digits-l2nnn"), robcert.load_dataset("digits", n=10)
    network = read_spec(old).models[0].network
    model = replace(loaded, source=replace(loaded.source, network=network))
    binned = robcert.certify(model, data, THREAT, "gap", bins=2, attack_run=old).models[0].bins
    assert [one.attacked is not None for one in binned] == [True, True]
    measured = robcert.jacobian(model, data, attack_run=old).models[0]
    assert measured.correlation is not None
    changed = replace(loaded, source=replace(loaded.source, network="0" * 64))
    with pytest.raises(UsageError, match="another network of the same file as digits-l2nnn"):
        robcert.jacobian(changed, data, attack_run=old)


def test_it_is_not_gone_on_with(old: Path) -> None:
    model, data = robcert.load_model("digits-l2nnn"), robcert.load_dataset("digits", n=10)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    with pytest.raises(UsageError, match="older version of robcert, which can be read but not gone on with"):
        robcert.attack(model, data, THREAT, "pgd:10,cw:10", goal="minimize", search_precision="float32", run=old)
    assert {name: (old / name).read_bytes() for name in before} == before
