"""The Python on the pages runs: one program a page, blocks in order; the files of extending.md as plug-ins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from blocks import ROOT, blocks, shell

_PLUG_INS = """
import centred, margin, scatter, second, shrink, squares, stripes, tap, tiny
import torch
import robcert
from robcert.network import from_module
from robcert.policy.record import GateRecord
from robcert.reports import formats

torch.manual_seed(0)
data = robcert.load_dataset("stripes")
model = from_module(tiny.tiny(num_classes=2), input_shape=data.shape, num_classes=2)
for norm, eps in (("l2", 0.5), ("linf", 0.1), ("l1", 2.0)):
    record = robcert.attack(model, data, robcert.Threat(norm, (eps,)), "scatter:20x2", certify="none")
    assert record.models[0].legs[0].forwards > 0
for plan in ("pgd:20", "apgd-t:20"):
    options = {plan.split(":")[0]: {"objective": "centred"}}
    record = robcert.attack(model, data, robcert.Threat("l2", (0.5,)), plan, options=options, certify="none")
    assert record.models[0].legs[0].backwards > 0
assert "tap" in formats(GateRecord)

from dataclasses import replace
from safetensors.torch import load_file

five = from_module(tiny.tiny(num_classes=5), input_shape=data.shape, num_classes=5, name="five")
right = replace(data, y=five.module(data.x).argmax(dim=1))
robcert.attack(five, right, robcert.Threat("l2", (8.0,)), "pgd:40", criterion="not-among-two", run="second-run")
found = load_file("second-run/adversarials-five.safetensors")
top = five.module(found["adversarial"]).topk(2, dim=1).indices
assert len(top) and not (top == found["label"].view(-1, 1)).any()

import erfc_images, erfc_slopes
from torch import nn
from robcert.certificates import Search, certificates
from robcert.errors import EvaluationError

class Erfc(nn.Module):
    def forward(self, x):
        return torch.special.erfc(x)

def certified(method):
    torch.manual_seed(1)
    layers = nn.Flatten(), nn.Linear(64, 8), Erfc(), nn.Linear(8, 2)
    net = from_module(nn.Sequential(*layers), input_shape=data.shape, num_classes=2)
    return certificates.get(method)(net, data.x, net.module(data.x).argmax(1), "l2", Search(eps=(0.01,)))

gap = certified("gap")
assert not gap.radius.any() and (gap.radius_real > 0).all() and "special_erfc" in gap.refused
try:
    certified("crown")
except EvaluationError as refused:
    assert "no linear relaxation for the op special_erfc" in refused.found
else:
    raise AssertionError("a domain without a rule refuses")
import erfc_lines, erfc_rounding
for method in ("gap", "crown", "margin", "best"):
    assert (certified(method).radius > 0).all(), method
assert list(certified("best").evidence.steps)[:2] == ["margin", "gap"]
assert "margin" in robcert.certify(model, data, robcert.Threat("l2", (0.1,)), "margin").models[0].certified_by[0]

from robcert.training import Recipe, fit

recipe = {"name": "t", "epochs": 20, "architecture": {"name": "tiny"}, "objective": {"name": "squares"}}
sizes = []
for regularisers in ([], [{"name": "shrink", "beta": 0.1}]):
    net = fit(Recipe.model_validate({**recipe, "regularisers": regularisers}), data, data)
    sizes.append(sum(float(p.abs().sum()) for p in net.parameters() if p.dim() > 1))
assert sizes[1] < sizes[0]
"""


_THREATS = """
[robcert.threats]
pixels = pixels:Pixels
brightness = brightness:Brightness
[robcert.attacks]
shift = shift:Shift
"""

_BRIGHTNESS = """
import torch
import robcert
from torch import nn
from robcert.network import from_module
from robcert.types import Dataset

layer = nn.Linear(16, 2)
with torch.no_grad():  # the second class above a mean of 0.5
    layer.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 16) / 16)
    layer.bias.copy_(torch.tensor([0.5, -0.5]))
means = torch.tensor([0.3, 0.42, 0.58, 0.7])
x = means.view(4, 1, 1, 1) + 0.2 * (torch.arange(16).view(1, 1, 4, 4) % 2 - 0.5)
data = Dataset("grey", "test", x, (means > 0.5).long(), torch.arange(4), ("dark", "bright"))
model = from_module(nn.Sequential(nn.Flatten(), layer), input_shape=data.shape, num_classes=2)
for goal, eps in (("decide", (0.1,)), ("minimize", (0.05, 0.1))):
    record = robcert.attack(model, data, robcert.Threat("brightness", eps), "shift:20", goal=goal).models[0]
    verdicts = [image.status if goal == "decide" else image.status[-1] for image in record.images]
    assert verdicts == ["open", "broken", "broken", "open"], verdicts
    assert all(0.08 <= image.distance <= eps[-1] for image in record.images[1:3])
assert [image.status[0] for image in record.images] == ["open"] * 4
"""


@pytest.mark.parametrize("page", ["python.md", "data.md"])
def test_page_runs(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("\n".join(block.text for block in blocks(ROOT / "docs" / page, "python")))
    done = shell("python page.py", tmp_path)
    assert done.code == 0, done.err


def test_the_notebook_runs(tmp_path: Path) -> None:
    """Its cells in order, as one program: no Jupyter is needed for that."""
    book = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    code = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert not any(cell.get("outputs") for cell in book["cells"]), "numbers come from running it"
    (tmp_path / "book.py").write_text("\n\n".join(code))
    done = shell("python book.py", tmp_path)
    assert done.code == 0, done.err
    assert "certified at each eps" in done.out
    assert (tmp_path / "bracket.svg").is_file()


def test_additions_work(tmp_path: Path) -> None:
    files = blocks(ROOT / "docs" / "extending.md", "python")
    assert [block.title for block in files] == [
        "scatter.py",
        "second.py",
        "centred.py",
        "pixels.py",
        "brightness.py",
        "shift.py",
        "stripes.py",
        "tiny.py",
        "margin.py",
        "erfc_images.py",
        "erfc_slopes.py",
        "erfc_lines.py",
        "erfc_rounding.py",
        "squares.py",
        "shrink.py",
        "tap.py",
    ]
    for block in files:
        (tmp_path / block.title).write_text(block.text)
    (tmp_path / "main.py").write_text(_PLUG_INS)
    done = shell("python main.py", tmp_path)
    assert done.code == 0, done.err


def test_kinds_of_threats_work(tmp_path: Path) -> None:
    """As an installed package: found by entry points, on the command line and from Python."""
    for block in blocks(ROOT / "docs" / "extending.md", "python"):
        (tmp_path / block.title).write_text(block.text)
    installed = tmp_path / "mypackage-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(_THREATS)
    (tmp_path / "main.py").write_text(_BRIGHTNESS)
    here = 'export PYTHONPATH="$PWD:${PYTHONPATH:-}"'
    verdicts: dict[str, dict[str, int]] = {}
    for norm in ("pixels", "linf"):  # of one channel: the same norm
        given = f"--norm {norm} --eps 0.08 --attack pgd --iterations 20 --n 20 --threads 1 --search-precision float32"
        done = shell(f"{here}; robcert attack digits-plain {given} --run {norm} --format json", tmp_path)
        assert done.code == 0, done.err
        verdicts[norm] = json.loads(done.out)["models"][0]["verdicts"]
    assert verdicts["pixels"]["broken"] > 5
    assert abs(verdicts["pixels"]["broken"] - verdicts["linf"]["broken"]) <= 2
    done = shell(f"{here}; robcert attack digits-plain --norm pixels --eps 0.08 --plan pgd:20 --n 20", tmp_path)
    assert "pgd" in done.out
    done = shell(f"{here}; robcert certify digits-plain --norm pixels --eps 0.08", tmp_path)
    assert done.code == 2
    assert "there are certificates and norms of operators in l2, linf, l1, not in pixels" in done.err
    done = shell(f"{here}; python main.py", tmp_path)
    assert done.code == 0, done.err


def test_the_recipe_trains(tmp_path: Path) -> None:
    """Fewer epochs than the page says."""
    (recipe,) = blocks(ROOT / "docs" / "training.md", "toml")
    (tmp_path / recipe.title).write_text(recipe.text.replace("epochs = 20", "epochs = 1"))
    done = shell("robcert train recipe.toml", tmp_path)
    assert done.code == 0, done.err
    assert "kept epoch" in done.out
