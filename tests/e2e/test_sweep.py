"""One table from the installed command, and every stored example reloaded by a script that knows no robcert."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from .conftest import Robcert, environment

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "run-1.json"
ZOO = ["digits-plain", "digits-at", "digits-l2nnn"]

RECHECK = """
import json, sys
import torch
from safetensors import safe_open

torch.set_num_threads(1)
folder, name = sys.argv[1:]
with safe_open(f"{folder}/adversarials-{name}.safetensors", framework="pt") as file:
    meta = json.loads(file.metadata()["robcert"])
    x, adversarial, label, other = (file.get_tensor(k) for k in ("x", "adversarial", "label", "adversarial_label"))
    claimed = file.get_tensor("distance")
assert adversarial.dtype == torch.float32 and len(adversarial) > 0
low, high = meta["box"]
assert float(adversarial.min()) >= low and float(adversarial.max()) <= high
apart = (adversarial.double() - x.double()).flatten(1)
order = {"l2": 2, "linf": float("inf"), "l1": 1}[meta["norm"]]
distance = torch.linalg.vector_norm(apart, ord=order, dim=1)
assert bool((distance <= max(meta["eps"])).all())
assert torch.allclose(distance, claimed, rtol=1e-14, atol=0)
network = torch.export.load(f"{folder}/network-{name}.pt2").module()
for size in (1, 7, len(x)):
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in adversarial.split(size)])
        clean = torch.cat([network(part).argmax(1) for part in x.split(size)])
    assert bool((answers != label).all()), size
    assert torch.equal(answers, other), size
    assert torch.equal(clean, label), size
assert not {"robcert", "numpy.testing"} & set(sys.modules)
print(len(x))
"""


def check_run(record: dict[str, Any], run: Path) -> None:
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(record)
    assert record == json.loads((run / "record.json").read_text())
    for model in record["models"]:
        column = [model["natural_correct"], *(leg["attacked_correct"] for leg in model["legs"])]
        assert column == sorted(column, reverse=True), "attacked accuracy never rises down a column"
        done = subprocess.run(
            [sys.executable, "-c", RECHECK, str(run), model["name"]],
            capture_output=True, text=True, env=environment(), check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == model["verdicts"]["broken"] > 0


def test_three_models_one_table(robcert: Robcert, folder: Path) -> None:
    command = ["attack", *ZOO, "--norm", "l2", "--eps", "0.5", "--attack", "cw", "--iterations", "20,200", "--n", "60",
               "--threads", "1", "--run", "sweep"]  # fmt: skip
    first = robcert(*command)
    assert first.returncode == 0, first.stderr
    for text in (*ZOO, "Natural", "cw:20", "cw:200", "Run: sweep", "forwards", "backwards"):
        assert text in first.stdout
    assert "\x1b" not in first.stdout + first.stderr, "no terminal: nothing animated, nothing coloured"
    assert "\r" not in first.stderr
    assert any(word in first.stdout for word in ("flat since", "still falling", "undecided"))
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "sweep").glob("found-*")}
    again = robcert(*command, "--format", "json")
    assert again.returncode == 0, again.stderr
    record = json.loads(again.stdout)
    assert "broke" not in again.stderr, "the same command again renders; it does not attack"
    assert {path: path.stat().st_mtime_ns for path in (folder / "sweep").glob("found-*")} == stamps
    assert [model["name"] for model in record["models"]] == ZOO
    check_run(record, folder / "sweep")
    other = robcert(*command[:-2], "--run", "sweep", "--seed", "1")
    assert other.returncode == 2
    assert "seed: there 0, here 1" in other.stderr
    robcert_show(robcert, folder, record)


def robcert_show(robcert: Robcert, folder: Path, record: dict[str, Any]) -> None:
    images = record["models"][0]["images"]
    broken = next(image["index"] for image in images if image["status"] == "broken")
    kept = next(image["index"] for image in images if image["status"] == "open")
    drawn = robcert("show", "sweep", "--model", ZOO[0], "--index", broken, "--output", "x.png")
    assert drawn.returncode == 0, drawn.stderr
    assert (folder / "x.png").read_bytes().startswith(b"\x89PNG")
    for arguments, text in (
        (("--model", ZOO[0], "--index", kept), f"no adversarial example of image {kept}"),
        (("--model", "digits-plian"), "Did you mean 'digits-plain'"),
        (("--output", "x.jpgg"), "cannot write"),
    ):
        failed = robcert("show", "sweep", *arguments)
        assert failed.returncode == 2
        assert text in failed.stderr
    assert robcert("show", "nowhere").returncode == 2


@pytest.mark.parametrize("norm", ["linf", pytest.param("l1", marks=pytest.mark.slow)])
def test_the_other_norms(robcert: Robcert, folder: Path, norm: str) -> None:
    eps = {"linf": "16/255", "l1": "3"}[norm]
    done = robcert("attack", "digits-plain", "--norm", norm, "--eps", eps, "--plan", "pgd:20x2", "--n", "40",
                   "--threads", "1", "--run", norm, "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_run(json.loads(done.stdout), folder / norm)


@pytest.mark.slow
def test_the_sweep_of_the_issue(robcert: Robcert, folder: Path) -> None:
    done = robcert("attack", *ZOO, "--norm", "l2", "--eps", "0.5", "--attack", "cw", "--iterations", "100,1k,10k",
                   "--n", "200", "--run", "issue", "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    check_run(record, folder / "issue")
    flat = {model["name"]: model["plateau"]["flat"] for model in record["models"]}
    assert flat["digits-l2nnn"] is True
