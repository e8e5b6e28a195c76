"""The installed `robcert gate`: each exit code, certificates without an attack, and what an early end saves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from .conftest import Robcert

_ROOT = Path(__file__).parents[2]
_HEAD = '[gate]\nmodels = ["digits-l2nnn"]\ndata = "digits"\nn = 200\n'
_PROVEN = '[[gate.require]]\nname = "proven"\nnorm = "l2"\neps = 0.1\nattacked_accuracy = 0.8\nplan = "pgd:20"\n'
_HOLDS = '[[gate.require]]\nname = "holds"\nnorm = "l2"\neps = 0.6\nattacked_accuracy = 0.5\nplan = "pgd:10"\n'
_FAILS = '[[gate.require]]\nname = "fails"\nnorm = "l2"\neps = 1.5\nattacked_accuracy = 0.9\nplan = "pgd:10x2,cw:100"\n'


def _policy(folder: Path, *parts: str, name: str = "robcert.toml") -> Path:
    (folder / name).write_text("\n".join(parts))
    return folder / name


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def test_exit_0_and_certificates_without_an_attack(robcert: Robcert, place: Path) -> None:
    _policy(place, _HEAD, _PROVEN, _HOLDS)
    done = robcert("gate", "--format", "json", "--save", "junit=out.xml", cwd=place)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    by_name = {one["name"]: one for one in record["requirements"]}
    proven = by_name["proven"]
    assert (proven["verdict"], proven["forwards"], proven["backwards"]) == ("proven", 0, 0)
    assert proven["counts"]["certified"] >= proven["counts"]["pass_at"]
    assert by_name["holds"]["verdict"] == "empirical"
    assert by_name["holds"]["backwards"] > 0
    assert (place / "out.xml").read_text().count("<testcase") == 2


def test_exit_1_and_the_early_end(robcert: Robcert, place: Path) -> None:
    """Failed as soon as enough images are broken: what that costs against the whole plan is printed."""
    _policy(place, _HEAD, _FAILS)
    early = robcert("gate", "--format", "json", "--runs", "a", cwd=place)
    whole = robcert("gate", "--format", "json", "--runs", "b", "--full", cwd=place)
    assert (early.returncode, whole.returncode) == (1, 1)
    first, second = (json.loads(done.stdout)["requirements"][0] for done in (early, whole))
    assert json.loads(whole.stdout)["runs"][0]["settled"] == first["forwards"], "a full run says where it could end"
    assert first["verdict"] == second["verdict"] == "failed"
    print(f"forwards: {first['forwards']} of {second['forwards']}")
    assert first["forwards"] < second["forwards"]
    assert first["counts"]["wrong"] + first["counts"]["broken"] >= 200 - first["counts"]["fail_at"]
    assert len(first["witnesses"]) == first["counts"]["broken"]
    # Everything that the early end says is confirmed by the whole run.
    assert {one["index"] for one in first["witnesses"]} <= {one["index"] for one in second["witnesses"]}


@pytest.mark.drawn(4)
@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("eps = 0.6", "epss = 0.6", ["robcert.toml:9: unknown key 'epss'", "Did you mean 'eps'?"]),
        ("n = 200", 'n = "many"', ["robcert.toml:4: n: ", "found 'many'"]),
        ("digits-l2nnn", "digits-l2nn", ["robcert.toml:2: ", "Did you mean 'digits-l2nnn'?"]),
        ("eps = 0.6", "eps = 0", ["robcert.toml:9: eps: a budget is a positive"]),
    ],
    ids=["unknown-key", "wrong-type", "missing-model", "eps-0"],
)
def test_exit_2_names_the_line_and_the_nearest_key(
    robcert: Robcert, place: Path, before: str, after: str, says: list[str]
) -> None:
    _policy(place, (_HEAD + "\n" + _HOLDS).replace(before, after))
    done = robcert("gate", cwd=place)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    for text in says:
        assert text in done.stderr, done.stderr


def test_exit_3_where_it_cannot_be_evaluated(robcert: Robcert, place: Path) -> None:
    shutil.copytree(_ROOT / "models" / "digits-plain", place / "nan")
    weights = load_file(place / "nan" / "weights.safetensors")
    name = next(iter(weights))
    weights[name][:] = float("nan")
    save_file(weights, place / "nan" / "weights.safetensors")
    _policy(place, _HEAD.replace("digits-l2nnn", "nan"), _HOLDS)
    done = robcert("gate", cwd=place)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
