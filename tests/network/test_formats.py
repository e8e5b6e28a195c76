"""Every format goes to disk and comes back as the same network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from robcert.errors import EvaluationError, UsageError
from robcert.network import Card, from_module, load_model, peek_card, save_model
from robcert.network.card import write_toml
from robcert.network.detect import detect
from robcert.nn import architectures

from .conftest import CLASSES, SHAPE, images, small_net


def card(**fields: object) -> Card:
    known = {"name": "small", "architecture": "mynets:small", "input_shape": SHAPE, "num_classes": CLASSES}
    return Card.model_validate({**known, **fields})


def test_safetensors_with_the_card_in_its_header(tmp_path: Path, factory: str) -> None:
    net = small_net()
    path = save_model(net, card(data="digits", results={"natural_accuracy": 0.5}), tmp_path / "a.safetensors")
    model = load_model(path, arch=factory)
    assert torch.equal(model.module(images()), net(images()))
    assert (model.name, model.input_shape, model.num_classes, model.box) == (
        "small",
        SHAPE,
        CLASSES,
        (0.0, 1.0),
    )
    assert model.source.format == "safetensors"
    assert len(model.source.sha256) == 64
    assert model.card is not None
    assert model.card["data"] == "digits"
    assert path.stat().st_mode & 0o044 == 0o044  # readable by others, where the umask allows it
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_safetensors_with_the_card_beside_it_and_the_folder_as_its_name(tmp_path: Path, factory: str) -> None:
    from safetensors.torch import save_file

    net = small_net()
    folder = tmp_path / "mine"
    folder.mkdir()
    save_file(net.state_dict(), folder / "weights.safetensors")
    write_toml(card(name=""), folder / "model.toml")
    for reference in (folder, str(folder / "weights.safetensors")):
        model = load_model(reference, arch=factory)
        assert torch.equal(model.module(images()), net(images()))
        assert model.name == "mine"
    assert peek_card(folder) == card(name="")


def test_state_dict_with_its_card(tmp_path: Path, factory: str) -> None:
    net = small_net()
    path = save_model(net, card(), tmp_path / "a.pt")
    with pytest.raises(UsageError, match="--arch mynets:small"):
        load_model(path)  # a file does not choose code
    assert torch.equal(load_model(path, arch=factory).module(images()), net(images()))
    assert peek_card(path) == card()
    assert set(torch.load(path, weights_only=True)["state_dict"]) == set(net.state_dict())


def test_zip_and_legacy_state_dicts_with_arch(tmp_path: Path, factory: str) -> None:
    net = small_net()
    for zipped in (True, False):
        torch.save(net.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        model = load_model(tmp_path / "a.pt", arch=factory, input_shape=SHAPE)
        assert torch.equal(model.module(images()), net(images()))
        assert peek_card(tmp_path / "a.pt") is None
        assert model.name == "a"


def test_shared_tensors_survive_safetensors(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    net[1].weight = net[0].weight
    from safetensors.torch import load_file

    path = save_model(net, card(), tmp_path / "a.safetensors")
    assert torch.equal(load_file(path)["1.weight"], net[0].weight)


@pytest.mark.parametrize("arch", ["cnn", "mlp"])
def test_a_registered_architecture_with_options(tmp_path: Path, arch: str) -> None:
    options = {"hidden": [5]}
    net = architectures.get(arch)(input_shape=SHAPE, num_classes=4, **options).eval()
    described = card(architecture=arch, options=options, num_classes=4)
    path = save_model(net, described, tmp_path / "a.safetensors")
    assert torch.allclose(load_model(path).module(images()), net(images()), atol=1e-6)


def script(net: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.script(net), str(path))


def export(net: nn.Module, path: Path) -> None:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    with path.open("wb") as file:
        torch.export.save(torch.export.export(net, (images(2),), dynamic_shapes=dynamic), file)


@pytest.mark.parametrize(("write", "kind"), [(script, "torchscript"), (export, "torch_export")])
@pytest.mark.parametrize("name", ["model.pt", "model.pt2", "model.safetensors", "model"])
def test_the_content_decides_not_the_suffix(
    tmp_path: Path, write: Callable[[nn.Module, Path], None], kind: str, name: str
) -> None:
    net = small_net()
    path = tmp_path / name
    write(net, path)
    assert detect(path) == kind
    model = load_model(path, input_shape=SHAPE)
    assert torch.allclose(model.module(images(5)), net(images(5)), atol=1e-6)
    assert model.source.format == kind
    assert not any(p.requires_grad for p in model.module.parameters())
    assert not model.module.eval().training
    x = images(2).requires_grad_()
    model.module(x).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0


def test_an_export_knows_its_shape_and_a_script_does_not(tmp_path: Path) -> None:
    export(small_net(), tmp_path / "a.pt2")
    assert load_model(tmp_path / "a.pt2").input_shape == SHAPE
    script(small_net(), tmp_path / "a.pt")
    with pytest.raises(UsageError, match="--input-shape 3,32,32"):
        load_model(tmp_path / "a.pt")


def test_an_export_for_one_batch_size_says_so(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(small_net(), (images(2),)), tmp_path / "a.pt2")
    with pytest.raises(EvaluationError, match="batches of exactly 2"):
        load_model(tmp_path / "a.pt2")


WRAPS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wraps=st.lists(st.sampled_from(WRAPS), max_size=3),
    prefixes=st.lists(st.sampled_from(PREFIXES), max_size=3),
    counter=st.booleans(),
)
def test_wrappers_and_prefixes_in_any_combination(
    tmp_path: Path, factory: str, wraps: list[str], prefixes: list[str], counter: bool
) -> None:
    net = small_net()
    found: dict[str, object] = {"".join(prefixes) + key: value for key, value in net.state_dict().items()}
    if counter:
        found["n_averaged"] = torch.tensor(3)
    for wrap in wraps:
        found = {"epoch": 3, wrap: found, "optimizer": {"lr": 0.1}}
    torch.save(found, tmp_path / "a.pt")
    model = load_model(tmp_path / "a.pt", arch=factory, input_shape=SHAPE)
    assert torch.equal(model.module(images()), net(images()))


def test_a_real_attribute_called_module_is_no_prefix(tmp_path: Path, factory: str) -> None:
    with (tmp_path / "mynets.py").open("a") as file:
        file.write(
            "class Holder(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.module = small()\n"
            "    def forward(self, x):\n"
            "        return self.module(x)\n"
        )
    net = small_net()
    torch.save({f"module.{key}": value for key, value in net.state_dict().items()}, tmp_path / "a.pt")
    model = load_model(tmp_path / "a.pt", arch="mynets:Holder", input_shape=SHAPE)
    assert torch.equal(model.module(images()), net(images()))


def test_half_precision_weights_become_float32(tmp_path: Path, factory: str) -> None:
    torch.save({key: value.half() for key, value in small_net().state_dict().items()}, tmp_path / "a.pt")
    model = load_model(tmp_path / "a.pt", arch=factory, input_shape=SHAPE)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert model.module(images()).dtype == torch.float32


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ((0.5,), (0.0,), "std is 0, but every value must be a positive finite number"),
        (None, (1.0, -1.0), "std is 1, -1"),
        (None, (float("nan"),), "std is nan"),
        ((float("inf"),), None, "mean is inf, but every value must be a finite number"),
    ],
)
def test_a_normalisation_that_is_none_is_the_callers_fault(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        load_model("digits-plain", mean=mean, std=std)
    with pytest.raises(UsageError, match=says):
        from_module(small_net(), SHAPE, mean=mean, std=std)


@pytest.mark.parametrize("kind", ["safetensors", "torchscript", "torch_export"])
def test_mean_and_std_are_inside_the_network(tmp_path: Path, factory: str, kind: str) -> None:
    net = small_net()
    path = tmp_path / "a.safetensors"
    if kind == "safetensors":
        save_model(net, card(), path)
    else:
        (script if kind == "torchscript" else export)(net, path)
    model = load_model(path, arch=factory, input_shape=SHAPE, mean=(0.25,), std=(0.5,))
    assert torch.allclose(model.module(images()), net((images() - 0.25) / 0.5), atol=1e-6)
    with pytest.raises(UsageError, match="mean has 3 values"):
        load_model(path, arch=factory, input_shape=SHAPE, mean=(0.1, 0.2, 0.3))


def test_flags_go_before_the_card(tmp_path: Path, factory: str) -> None:
    path = save_model(small_net(), card(mean=(0.5,), std=(0.5,), box=(0, 1)), tmp_path / "a.pt")
    model = load_model(path, arch=factory, box=(-1.0, 2.0), name="mine")
    assert (model.box, model.name) == ((-1.0, 2.0), "mine")
    assert torch.allclose(model.module(images()), load_model(path, arch=factory).module(images()))


def test_from_module_copies_and_never_touches(tmp_path: Path) -> None:
    net = small_net().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    model = from_module(net, SHAPE, CLASSES, name="mine", mean=(0.5,))
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(1)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert model.source.format == "memory"
    again = from_module(net, SHAPE, CLASSES)
    assert again.source.sha256 == model.source.sha256
    with torch.no_grad():
        next(net.parameters()).add_(1)
    assert from_module(net, SHAPE, CLASSES).source.sha256 != model.source.sha256


def test_torchvision_resnet18_from_a_state_dict(tmp_path: Path) -> None:
    from robcert.vision import torchvision

    net = torchvision().models.resnet18(num_classes=5).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "r.pth")
    model = load_model(tmp_path / "r.pth", arch="torchvision:resnet18", input_shape=(3, 32, 32))
    assert model.num_classes == 5
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.module.modules())
    x = images(2, (3, 32, 32))
    assert torch.allclose(model.module(x), net(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        load_model(tmp_path / "r.pth", arch="torchvision:resnet19")
