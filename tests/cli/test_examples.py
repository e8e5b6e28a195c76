"""The examples of the help run: the cheap ones here, as they stand or on fewer images; the others in the slow set."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import robcert
from robcert.cli.main import app
from robcert.network.zoo import zoo_path

from .conftest import Answer, Call

_EXAMPLE = re.compile(r"`robcert ([^`]+)`|^\s*(?:Example|and then): robcert (.+)$", re.MULTILINE)
_PLAN = "--n 6 --plan pgd:2 --threads 1"

QUICK = {
    "attack digits-l2nnn --norm l2 --eps 0.5": _PLAN,
    'attack digits-plain --norm l2 --eps 0.5 --plan "ddn:1k,cw:1k"': _PLAN,
    "certify digits-l2nnn --norm l2 --eps 0.1,0.25,0.5 --bins 10": "--n 20 --method gap",
    "certify digits-at --norm linf --eps 0.02,0.05 --method gap,crown,best --n 50": "--n 2 --method gap,crown",
    "certify digits-l2nnn --eps 0.25 --method gap --fallback digits-plain --switch sweep": "",
    "verify net.onnx prop_0.vnnlib --timeout 60": "",
    "verify net.onnx prop_0.vnnlib --format vnncomp --output result.txt": "",
    "verify --instances instances.csv --results results.csv --arithmetic real --run runs/mnist": "",
    "gate --policy robcert.toml --save junit=robcert.xml --save sarif=robcert.sarif": "",
    "gate --update-baseline": "",
    "report runs/attack-digits-l2nnn-l2-0.5-1a2b3c4d --output report.html": "",
    "norms digits-l2nnn --format json --output norms.json": "",
    "report runs/first norms.json": "",
    "norms digits-l2nnn": "",
    "norms digits-l2nnn digits-plain --papers": "",
    "jacobian digits-plain digits-at digits-l2nnn": "--n 6",
    "jacobian digits-plain --norm linf --n 100 --plot norms.svg": "--n 6",
    "detect digits-plain --store detector.json --plan cw:100,evasive-cw:100 --plot detect.svg": "--plan pgd:2 --n 20 "
    "--calibration 20 --attacked 2",
    "detect digits-plain --threshold-from detector.json --images incoming": "",
    "compare runs/plain runs/robust --plot curves.svg": "",
    "show runs/attack-digits-l2nnn-l2-0.5-1a2b3c4d --index 12 --output x.png": "",
    "runs --model digits --sort attacked": "",
    "leaderboard runs/attack-digits-plain-l2-0.5-1a2b3c4d runs/attack-digits-at-l2-0.5-5e6f7a8b": "",
    "models": "",
    "architectures": "",
    "attacks": "",
    "certificates": "",
    "certify digits-plain --norm l2 --eps 0.1 --method crown": "--n 4",
    "export digits-l2nnn digits-l2nnn.onnx": "",
    "data --data-dir ~/data": "",
    "train models/digits-l2nnn/recipe.toml --output my-l2nnn": "",
}
"""An example -> what is added to it here."""

WHOLE = (
    "attack digits-l2nnn --norm l2 --eps 0.5",
    "attack model.pt --arch torchvision:resnet18 --data npz:images.npz --norm linf --eps 8/255",
    "certify digits-at --norm linf --eps 0.02,0.05 --method gap,crown,best --n 50",
    "gate --init digits-l2nnn",
    "norms torchvision:resnet18 --random-weights --input-shape 3,32,32 --plot norms.svg",
    "norms torchvision:resnet18 --random-weights",
    "detect digits-plain",
    "attack my-l2nnn --norm l2 --eps 0.5",
)
"""Examples that take minutes."""

DOWNLOADED = {
    "attack timm:resnet50.a1_in1k --download --data folder:pictures --norm linf --eps 4/255",
    "reproduce l2nnn-table1 --n 1000 --max-iterations 10k",
    "attack weights.pt --arch cnn --norm l2 --eps 0.5 --data mnist",
    "reproduce l2nnn-table4 --n 200 --results models/RESULTS.md",
    "reproduce l2nnn-table1 --n 1000 --max-iterations 10k --models mnist-l2nnn --results models/RESULTS.md",
    "data lipschitz mnist fashion-mnist",
}
"""Examples on data or weights that have to be downloaded, hours for some; `robcert reproduce` has tests of its own."""


def described(group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield name, command
        if hasattr(command, "commands"):
            yield from described(command)


def examples() -> dict[str, str]:
    """Every example -> the command whose help has it."""
    found: dict[str, str] = {}
    for name, command in described(typer.main.get_command(app)):
        for match in _EXAMPLE.finditer(command.help or ""):
            line = (match[1] or match[2]).strip()
            if not line.startswith("detect --images"):  # a sentence
                found.setdefault(line, name)
    return found


RUNS = {
    "digits-l2nnn": ("attack-digits-l2nnn-l2-0.5-1a2b3c4d", "first"),
    "digits-plain": ("attack-digits-plain-l2-0.5-1a2b3c4d", "plain"),
    "digits-at": ("attack-digits-at-l2-0.5-5e6f7a8b", "robust"),
}
"""A model -> the runs of it that examples name."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files and runs that the examples name."""
    at = tmp_path_factory.mktemp("examples")
    first = robcert.load_dataset("digits", n=30, seed=19)  # image 12 is among them
    models = {name: robcert.load_model(name) for name in ("digits-l2nnn", "digits-plain", "digits-at")}
    threat = robcert.Threat("l2", (0.5,))
    for model, (name, other) in RUNS.items():
        made = at / "runs" / name
        robcert.attack(models[model], first, threat, "pgd:10", goal="minimize", certify="none", run=made, cpu_threads=1)
        shutil.copytree(made, at / "runs" / other)
    robcert.export("digits-plain", at / "net.onnx")
    box = "".join(f"(declare-const X_{k} Real)\n(assert (>= X_{k} 0))\n(assert (<= X_{k} 0.01))\n" for k in range(64))
    outputs = "".join(f"(declare-const Y_{k} Real)\n" for k in range(10))
    (at / "prop_0.vnnlib").write_text(f"{box}{outputs}(assert (>= Y_0 1000))\n")
    (at / "instances.csv").write_text("net.onnx,prop_0.vnnlib,20\n")
    (at / "robcert.toml").write_text(
        '[gate]\nmodels = ["digits-plain"]\nn = 20\nbaseline = "baseline.json"\n'
        '[[gate.require]]\nattacked_accuracy = 0.1\nnorm = "l2"\neps = 0.2\nplan = "pgd:2"\n'
    )
    (at / "incoming").mkdir()
    Image.fromarray((255 * first.x[0, 0]).to(torch.uint8).numpy()).save(at / "incoming" / "one.png")
    (at / "models" / "digits-l2nnn").mkdir(parents=True)
    recipe = (zoo_path("digits-l2nnn") / "recipe.toml").read_text()
    (at / "models" / "digits-l2nnn" / "recipe.toml").write_text(re.sub(r"epochs = \d+", "epochs = 1", recipe))
    return at


FIRST = {
    "detect digits-plain --threshold-from detector.json --images incoming": "detect digits-plain --store detector.json "
    "--plan pgd:2 --n 20 --calibration 20 --attacked 2",
    "report runs/first norms.json": "norms digits-l2nnn --format json --output norms.json",
}
"""An example -> what its help says to run before."""


def run(call: Call, made: Path, line: str) -> Answer:
    os.chdir(made)
    return call(*[word.replace("~", str(made)) for word in shlex.split(line)])


def test_every_example_is_in_one_of_the_tables() -> None:
    known = examples()
    assert set(known) == {*QUICK, *WHOLE, *DOWNLOADED}
    tried = {known[line] for line in QUICK}
    assert tried >= set(known.values()) - {"lipschitz", "reproduce"}


@pytest.mark.drawn(4)
@pytest.mark.parametrize("line", QUICK)
def test_it_runs(call: Call, made: Path, line: str) -> None:
    if "--update-baseline" in line:
        with (made / "robcert.toml").open("a") as policy:
            policy.write('[[gate.require]]\nattacked_accuracy_drop = 0.1\nnorm = "l2"\neps = 0.2\nplan = "pgd:2"\n')
    if line in FIRST:
        assert run(call, made, FIRST[line]).code == 0
    answer = run(call, made, f"{line} {QUICK[line]}")
    assert answer.code in ((0, 1) if "--images" in line else (0,)), answer.err  # 1: the image was rejected


@pytest.mark.slow
@pytest.mark.parametrize("line", WHOLE)
def test_it_runs_as_it_stands(call: Call, made: Path, tmp_path: Path, line: str) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18(num_classes=10).state_dict(), made / "model.pt")
    rng = np.random.default_rng(0)
    np.savez(made / "images.npz", x=rng.random((8, 3, 32, 32), np.float32), y=np.arange(8))
    if "--init" in line:
        (made / "robcert.toml").unlink()
    if "my-l2nnn" in line:
        shutil.copytree(zoo_path("digits-l2nnn"), made / "my-l2nnn", dirs_exist_ok=True)
    answer = run(call, made, line)
    assert answer.code == 0, answer.err
