"""The Python on the pages runs: one program a page, blocks in order; the files of extending.md as plug-ins."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import ROOT, blocks, shell

_PLUG_INS = """
import margin, scatter, shrink, squares, stripes, tap, tiny
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
assert "tap" in formats(GateRecord)

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


@pytest.mark.parametrize("page", ["python.md", "data.md"])
def test_page_runs(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("\n".join(block.text for block in blocks(ROOT / "docs" / page, "python")))
    done = shell("python page.py", tmp_path)
    assert done.code == 0, done.err


def test_additions_work(tmp_path: Path) -> None:
    files = blocks(ROOT / "docs" / "extending.md", "python")
    assert [block.title for block in files] == [
        "scatter.py",
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


def test_the_recipe_trains(tmp_path: Path) -> None:
    """Fewer epochs than the page says."""
    (recipe,) = blocks(ROOT / "docs" / "training.md", "toml")
    (tmp_path / recipe.title).write_text(recipe.text.replace("epochs = 20", "epochs = 1"))
    done = shell("robcert train recipe.toml", tmp_path)
    assert done.code == 0, done.err
    assert "kept epoch" in done.out
