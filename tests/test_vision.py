"""torchvision is imported beside a torch that it was not built for, or the mismatch is explained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robcert.errors import EvaluationError
from robcert.vision import SCHEMAS, torchvision


def test_torchvision_is_whole() -> None:
    found = torchvision()
    assert found.models.resnet18(num_classes=3)(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert found.datasets.CIFAR10 is not None
    assert torchvision() is found


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_declaration_parses(name: str) -> None:
    from torch._C import parse_schema

    assert parse_schema(f"torchvision::{name}{SCHEMAS[name]}").name == f"torchvision::{name}"


@pytest.mark.parametrize(
    ("breakage", "message"), [("raise RuntimeError('bad wheel')", "bad wheel"), (None, "not installed")]
)
def test_other_breakages_are_explained(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    breakage: str | None,
    message: str,
) -> None:
    folder = tmp_path_factory.mktemp("site")
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        monkeypatch.delitem(sys.modules, name)
    if breakage is None:
        monkeypatch.setitem(sys.modules, "torchvision", None)
    else:
        (folder / "torchvision").mkdir()
        (folder / "torchvision" / "__init__.py").write_text(breakage)
        monkeypatch.syspath_prepend(folder)
    with pytest.raises(EvaluationError, match=message) as caught:
        torchvision()
    assert "pip install" in caught.value.do


WANTED = {
    "torchvision": ("import torchvision\nfrom torchvision.models import resnet18", "resnet18(num_classes=3)"),
    "timm": ("import timm", "timm.create_model('resnet10t')"),
    "a library": ("import theirs_library", "theirs_library.network()"),
}


@pytest.mark.parametrize("package", WANTED)
def test_a_factory_may_import_it_before_robcert_does(tmp_path: Path, package: str) -> None:
    """In a process of its own: here torchvision is imported already."""
    wanted, make = WANTED[package]
    # As transformers and others do, which import torchvision when they are asked for a network.
    library = "def network():\n    from torchvision.models import resnet18\n    return resnet18(num_classes=3)\n"
    (tmp_path / "theirs_library.py").write_text(library)
    (tmp_path / "theirs.py").write_text(f"{wanted}\n\n\ndef make():\n    return {make}\n")
    code = (
        "import torch\n"
        "from robcert.network.architecture import build\n"
        "from robcert.network.request import Request\n"
        "net = build(Request('theirs:make')).eval()\n"
        "answer = net(torch.rand(1, 3, 64, 64))\n"
        "assert len(getattr(answer, 'logits', answer)) == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
