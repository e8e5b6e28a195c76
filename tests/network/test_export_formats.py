"""`robcert export`: every format comes back as the same network, with the same Lipschitz bound and verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.errors import EvaluationError, UsageError
from robcert.network import load_model
from robcert.network.convert import export
from robcert.types import BOUND_NORMS

from .conftest import SHAPE, images, small_net


@pytest.mark.parametrize("name", ["digits-l2nnn", "digits-plain"])
@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".safetensors"])
def test_there_and_back(tmp_path: Path, name: str, suffix: str) -> None:
    done = export(name, tmp_path / f"a{suffix}")
    assert done.difference <= 1e-5
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]
    model, back = load_model(name), load_model(done.path)
    x = images(20, model.input_shape)
    with torch.no_grad():
        expected, found = model.module(x), back.module(x)
    assert float((expected - found).abs().max() / expected.abs().max()) <= 1e-5
    assert (back.input_shape, back.num_classes, back.box) == (model.input_shape, model.num_classes, model.box)
    assert back.card is not None
    assert back.card["data"] == "digits"
    one, other = graph_bound(model), graph_bound(back)
    for norm in BOUND_NORMS:
        assert other.bounds[norm].whole == pytest.approx(one.bounds[norm].whole, rel=1e-6)
        assert torch.allclose(other.bounds[norm].logits, one.bounds[norm].logits, rtol=1e-6)


def test_verdicts_are_the_same(tmp_path: Path) -> None:
    import robcert

    done = export("digits-l2nnn", tmp_path / "a.onnx")
    data = robcert.load_dataset("digits", n=40, seed=0)
    threat = robcert.Threat("l2", (0.5,))
    found = [
        robcert.attack(load_model(reference), data, threat, "pgd:50", search_precision="float32")
        for reference in ("digits-l2nnn", done.path)
    ]
    one, other = ([image.status for image in record.models[0].images] for record in found)
    assert {"broken", "certified"} <= set(one)
    # DESIGN section 9: statuses are equal but for images whose margin is below the rounding bound (at most 0.5 %).
    assert sum(a != b for a, b in zip(one, other, strict=True)) == 0


def test_graphs_go_to_graphs_and_weights_to_weights(tmp_path: Path, factory: str) -> None:
    net = small_net()
    torch.save(net.state_dict(), tmp_path / "a.pt")
    done = export(
        str(tmp_path / "a.pt"), tmp_path / "b.safetensors", arch=factory, input_shape=SHAPE, mean=(0.5,), std=(0.5,)
    )
    assert load_model(done.path, arch=factory).card["mean"] == [0.5]  # pyright: ignore
    assert factory in done.runs
    on = export(done.path, tmp_path / "c.onnx", arch=factory)
    again = export(on.path, tmp_path / "d.pt2")
    last = export(again.path, tmp_path / "e.onnx")
    x = images()
    assert torch.allclose(load_model(last.path).module(x), net((x - 0.5) / 0.5), atol=1e-5)
    with pytest.raises(UsageError, match=r"robcert export .*c\.onnx .*f\.onnx"):
        export(on.path, tmp_path / "f.safetensors")
    with pytest.raises(UsageError, match=r"\.onnx, \.pt2, \.safetensors"):
        export(on.path, tmp_path / "f.h5")
    torch.jit.save(torch.jit.script(small_net()), str(tmp_path / "s.pt"))
    with pytest.raises(EvaluationError, match="TorchScript"):
        export(str(tmp_path / "s.pt"), tmp_path / "g.onnx", input_shape=SHAPE)


def test_no_path_of_this_machine_is_written(tmp_path: Path) -> None:
    content = Path(export("digits-plain", tmp_path / "a.onnx").path).read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from robcert.cli.main import _run

    assert _run(["export", "digits-plain", str(tmp_path / "a.onnx"), "--format", "json"]) in (0, None)
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == "robcert.export/1"
    assert record["difference"] <= 1e-5
    assert record["size"] == (tmp_path / "a.onnx").stat().st_size
