"""The executed network as a file that torch alone runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from robcert.errors import EvaluationError, UsageError
from robcert.network import export_pt2, from_module, load_model, peek_card
from robcert.nn import architectures

from .conftest import CLASSES, SHAPE, images, residual_net, small_net


def test_export_and_back(tmp_path: Path) -> None:
    model = from_module(residual_net(), SHAPE, CLASSES, name="mine", mean=(0.5,), std=(0.25,))
    path = export_pt2(model, tmp_path / "a", {"data": "digits"})
    assert path == tmp_path / "a.pt2"
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt2"]
    back = load_model(path)
    assert (back.name, back.input_shape, back.num_classes) == ("mine", SHAPE, CLASSES)
    card = peek_card(path)
    assert card is not None
    assert (card.data, card.mean, card.std) == ("digits", None, None)
    for n in (1, 2, 7, 33):
        expected, found = model.module(images(n)), back.module(images(n))
        bound = model.rounding * expected.abs().amax(1, keepdim=True)
        assert bool(((expected - found).abs() <= bound).all())
    again = load_model(export_pt2(back, tmp_path / "b.pt2"))
    assert torch.equal(again.module(images()), back.module(images()))


def test_a_script_that_imports_only_torch_runs_it(tmp_path: Path) -> None:
    model = from_module(small_net(), SHAPE, CLASSES)
    path = export_pt2(model, tmp_path / "a.pt2")
    torch.save({"x": images(5), "logits": model.module(images(5))}, tmp_path / "io.pt")
    script = (
        "import sys, torch\n"
        "io = torch.load(sys.argv[2], weights_only=True)\n"
        "net = torch.export.load(sys.argv[1]).module()\n"
        "assert torch.allclose(net(io['x']), io['logits'], atol=1e-6)\n"
        "assert net(io['x'][:1]).shape == (1, 3)\n"
        "assert not any(name.startswith('robcert') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path), str(tmp_path / "io.pt")], check=True, cwd=tmp_path)


@pytest.mark.parametrize("arch", ["cnn", "mlp", "linear", "l2nnn"])
def test_registered_architectures_export(tmp_path: Path, arch: str) -> None:
    net = architectures.get(arch)(input_shape=(1, 8, 8), num_classes=5)
    model = from_module(net, (1, 8, 8), 5)
    back = load_model(export_pt2(model, tmp_path / "a.pt2"))
    x = images(3, (1, 8, 8))
    assert torch.allclose(back.module(x), model.module(x), atol=1e-5)


def test_torchscript_is_written_as_itself(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(small_net()), str(tmp_path / "a.pt"))
    model = load_model(tmp_path / "a.pt", input_shape=SHAPE, mean=(0.5,))
    path = export_pt2(model, tmp_path / "b.pt2")
    assert path.suffix == ".pt"
    back = load_model(path)
    assert torch.equal(back.module(images()), model.module(images()))
    assert torch.jit.load(str(path))(images(2)).shape == (2, CLASSES)


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :CLASSES] if float(x.sum()) > -1 else x.flatten(1)[:, 1 : CLASSES + 1]

    model = from_module(Branching(), SHAPE, CLASSES)
    with pytest.raises(EvaluationError, match=r"decides by the values .*test_export\.py"):
        export_pt2(model, tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


def test_wrong_folders_and_fields(tmp_path: Path) -> None:
    model = from_module(small_net(), SHAPE, CLASSES)
    with pytest.raises(UsageError, match="there is no folder"):
        export_pt2(model, tmp_path / "none" / "a.pt2")
    with pytest.raises(EvaluationError, match="Did you mean 'data'"):
        export_pt2(model, tmp_path / "a.pt2", {"dat": "digits"})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_error_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robcert.network import Card, save_model

    path = save_model(small_net(), Card(), tmp_path / "a.safetensors")
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EvaluationError, match="No space left"):
        save_model(small_net(), Card(name="new"), path)
    assert path.read_bytes() == before
