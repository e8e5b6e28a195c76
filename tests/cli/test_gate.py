"""`robcert gate` with baselines, time budgets, a sample that is too small, and a first policy."""

from __future__ import annotations

import html
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from robcert.network.zoo import zoo_path
from robcert.policy.evaluate import How, evaluate
from robcert.policy.load import load_policy

from .conftest import Call

_HEAD = '[gate]\nmodels = ["digits-l2nnn"]\ndata = "digits"\nn = 100\n'
_HOLDS = '[[gate.require]]\nname = "holds"\nnorm = "l2"\neps = 0.6\nattacked_accuracy = 0.4\nplan = "pgd:10"\n'
_UNSURE = '[[gate.require]]\nname = "unsure"\nnatural_accuracy = 0.97\n'


def _policy(folder: Path, *parts: str, name: str = "robcert.toml") -> Path:
    (folder / name).write_text("\n".join(parts))
    return folder / name


def test_the_same_gate_again_attacks_nothing(call: Call, tmp_path: Path) -> None:
    _policy(tmp_path, _HEAD, _HOLDS)
    first, second = (call("gate", "--format", "json") for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.out
    assert json.loads(first.out)["requirements"] == json.loads(second.out)["requirements"]
    assert "finished already" in second.err


def test_inconclusive_is_1_or_a_warning(call: Call, tmp_path: Path) -> None:
    _policy(tmp_path, _HEAD, _UNSURE)
    done = call("gate")
    assert done.code == 1
    assert "inconclusive" in done.out
    assert "images would decide" in " ".join(done.out.split())
    assert call("gate", "--inconclusive", "warn").code == 0


def test_a_summary_that_cannot_be_written_masks_no_verdict(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "x"))
    for limit, code in (("0.5", 0), ("0.999", 1)):
        _policy(tmp_path, _HEAD.replace("n = 100\n", ""), f"[[gate.require]]\nnatural_accuracy = {limit}\n")
        done = call("gate", "--format", "github")
        assert done.code == code, done.err
        assert "robcert: warning: GITHUB_STEP_SUMMARY: cannot write" in done.err


def test_a_baseline_and_a_worse_model(call: Call, tmp_path: Path) -> None:
    drop = (
        '[[gate.require]]\nname = "no regression"\nnorm = "l2"\neps = 0.5\nattacked_accuracy_drop = 0.05\n'
        'plan = "pgd:10"\n'
    )
    head = _HEAD.replace('["digits-l2nnn"]', '[{ path = "digits-at", name = "ours" }]') + 'baseline = "base.json"\n'
    _policy(tmp_path, head, drop)
    missing = call("gate")
    assert missing.code == 2
    assert "--update-baseline" in missing.err
    assert call("gate", "--update-baseline").code == 0
    same = call("gate", "--format", "json")
    one = json.loads(same.out)["requirements"][0]
    assert same.code == 0, one
    assert (one["pairs"]["lost"], one["pairs"]["won"], one["verdict"]) == (0, 0, "empirical")
    worse = call("gate", "digits-plain", "--format", "json")
    one = json.loads(worse.out)["requirements"][0]
    assert (worse.code, one["model"], one["verdict"]) == (1, "ours", "failed")
    assert one["pairs"]["lost"] == len(one["pairs"]["newly_broken"]) > 0
    assert one["pairs"]["mcnemar"] < 0.001
    other = call("gate", "--policy", _policy(tmp_path, head.replace("n = 100", "n = 90"), drop, name="o.toml"))
    assert other.code == 2
    assert "90 of digits" in other.err


def test_a_time_budget_that_is_spent_is_inconclusive(call: Call, tmp_path: Path) -> None:
    _policy(tmp_path, _HEAD + 'time_budget = "0.1s"\n', _HOLDS.replace("pgd:10", "pgd:100000"))
    done = call("gate", "--format", "json")
    one: dict[str, Any] = json.loads(done.out)["requirements"][0]
    assert (done.code, one["verdict"], one["needed"]) == (1, "inconclusive", None)
    assert "time budget" in one["reason"]


def test_the_reason_names_the_leg_that_did_not_end(call: Call, tmp_path: Path) -> None:
    """By a clock that goes on by a second whenever it is read."""
    path = _policy(tmp_path, _HEAD + 'time_budget = "8s"\n', _HOLDS.replace("pgd:10", "pgd:100k"))
    done = evaluate(load_policy(path), How(runs=None, clock=itertools.count().__next__))
    one = done.requirements[0]
    assert (one.verdict, done.passed) == ("inconclusive", False)
    assert re.search(r"pgd:100k is unfinished, \d+ of 78 images", one.reason), one.reason


def _noisy(folder: Path) -> Path:
    """Write digits-l2nnn with noise in its weights."""
    copy = shutil.copytree(zoo_path("digits-l2nnn"), folder / "noisy")
    generator = torch.Generator().manual_seed(0)
    weights = load_file(copy / "weights.safetensors")
    for one in weights.values():
        one += one.std() * torch.randn(one.shape, generator=generator)
    save_file(weights, copy / "weights.safetensors")
    return copy


def test_init_writes_a_policy_that_holds(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the images and with the legs that were measured; weights with noise, which costs much, do not hold."""
    monkeypatch.setattr("robcert.policy.template.ASKED", 150)
    monkeypatch.setattr("robcert.policy.start.PLAN", "pgd:10")
    done = call("gate", "--init", "digits-l2nnn", "--time-budget", "1h")
    assert done.code == 0, done.err
    assert "git" in done.out
    text = (tmp_path / "robcert.toml").read_text()
    assert text.count("#") > 5
    assert 'time_budget = "1h"' in text
    held = call("gate", "--format", "json")
    assert held.code == 0, held.out + text
    record = json.loads(held.out)
    assert record["data"]["n"] == 150
    assert [one["kind"] for one in record["requirements"]] == [
        "natural_accuracy", "attacked_accuracy", "certified_accuracy",
    ]  # fmt: skip
    assert all(0 <= one["value"] - one["limit"] <= 0.1 for one in record["requirements"]), held.out
    assert record["requirements"][1]["counts"]["broken"] > 0, "eps is one at which attacks do something"
    twice = call("gate", "--init", "digits-l2nnn")
    assert twice.code == 2
    assert (tmp_path / "robcert.toml").read_text() == text
    noisy = call("gate", _noisy(tmp_path))
    assert noisy.code == 1
    assert "failed" in noisy.out


def test_no_policy_where_no_leg_ended(call: Call, tmp_path: Path) -> None:
    """What could not be measured is not asked for; a time that is none is refused before anything is loaded."""
    answer = call("gate", "--init", "digits-plain", "--time-budget", "0.001s")
    assert answer.code == 3
    assert "did not end" in answer.err
    assert "--time-budget" in answer.err
    assert not (tmp_path / "robcert.toml").exists()
    assert call("gate", "--init", "digits-plain", "--time-budget", "soon").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("model", ["digits-plain", "digits-at", "digits-l2nnn"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_init_writes_a_policy_that_holds_as_it_is(call: Call, tmp_path: Path, model: str, norm: str) -> None:
    assert call("gate", "--init", model, "--norm", norm).code == 0
    held = call("gate")
    assert held.code == 0, held.out + (tmp_path / "robcert.toml").read_text()


def test_after_a_failure_the_images_are_a_command_away(call: Call, tmp_path: Path) -> None:
    (tmp_path / "robcert.toml").write_text(
        '[gate]\nmodels = ["digits-plain"]\nn = 40\n'
        '[[gate.require]]\nattacked_accuracy = 0.99\nnorm = "l2"\neps = 0.5\nplan = "pgd:5"\n'
    )
    answer = call("gate", "--save", "markdown=gate.md", "--save", "html=gate.html")
    assert answer.code == 1, answer.err
    (line,) = [line for line in answer.out.splitlines() if line.startswith("See them: ")]
    command = line.removeprefix("See them: robcert ")
    drawn = call(*shlex.split(command))
    assert drawn.code == 0, drawn.err
    assert drawn.out.startswith("Drew ")
    assert (tmp_path / "broken.png").stat().st_size > 1000
    assert "robcert show" in (tmp_path / "gate.md").read_text()
    assert command in html.unescape((tmp_path / "gate.html").read_text())
    (tmp_path / "robcert.toml").write_text((tmp_path / "robcert.toml").read_text().replace("0.99", "0.01"))
    assert "See them" not in call("gate").out
