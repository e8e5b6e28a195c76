"""Names of libraries: what they resolve to, what is refused, and what they never do without being asked."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from library_models import MODELS, NAMES, SIDE, Small, saved
from safetensors.torch import load_file, save_file

from robcert.errors import EvaluationError, UsageError
from robcert.network import load_model, peek_card
from robcert.preparation import Pipeline
from robcert.vision import mend

RESNET = next(small for small in MODELS if str(small) == "timm-resnet10t")
VIT = next(small for small in MODELS if str(small) == "transformers-ViT")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Small, tuple[Path, torch.nn.Module]]:
    made: dict[Small, tuple[Path, torch.nn.Module]] = {}
    for small in (RESNET, VIT):
        folder = tmp_path_factory.mktemp(str(small)) / "net"
        module, _ = saved(small, folder)
        made[small] = folder, module
    return made


@pytest.fixture
def vit(folders: dict[Small, tuple[Path, torch.nn.Module]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders[VIT][0], tmp_path / "vit"))


@pytest.fixture
def resnet(folders: dict[Small, tuple[Path, torch.nn.Module]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders[RESNET][0], tmp_path / "resnet"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of the hub of its own; whoever opens a connection fails the test."""
    mend()
    import huggingface_hub

    place = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(place))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    tried: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield place
    assert not tried


def in_cache(cache: Path, repo: str, folder: Path) -> None:
    """Put a folder into a cache of the hub, as a download leaves it."""
    place = cache / f"models--{repo.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    (place / "blobs").mkdir()
    for file in folder.iterdir():
        shutil.copy(file, place / "blobs" / file.name)
        (snapshot / file.name).symlink_to(place / "blobs" / file.name)


def edit(folder: Path, file: str = "config.json", **changes: Any) -> None:
    found = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**found, **changes}))


def test_a_folder_of_transformers_answers_as_transformers_does(
    folders: dict[Small, tuple[Path, torch.nn.Module]],
) -> None:
    folder, module = folders[VIT]
    model = load_model(folder)
    x = torch.rand(3, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = module((x * 255 - 127.5) / 127.5).logits
    assert torch.allclose(model.module(x), expected, atol=1e-5)
    assert (model.name, model.num_classes, model.source.format) == ("net", 4, "transformers")
    assert model.labels.names == NAMES
    assert model.pipeline == Pipeline((SIDE, SIDE), None, "bilinear", True, "transformers")


def test_a_folder_of_timm_answers_as_timm_does(folders: dict[Small, tuple[Path, torch.nn.Module]]) -> None:
    folder, module = folders[RESNET]
    model = load_model(folder)
    x = torch.rand(3, 3, SIDE, SIDE)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = module((x - mean) / std)
    assert torch.allclose(model.module(x), expected, atol=1e-4 * float(expected.abs().max()))
    assert model.labels.names == NAMES and model.source.format == "timm"
    assert model.pipeline == Pipeline((36,), (SIDE, SIDE), "bicubic", True, "timm")


def test_names_are_read_from_the_cache_of_the_hub(cache: Path, vit: Path, resnet: Path) -> None:
    in_cache(cache, "some/vit", vit)
    in_cache(cache, "timm/resnet18.a1_in1k", resnet)
    model = load_model("hf:some/vit")
    assert model.source.reference == "hf:some/vit" and model.num_classes == 4 and model.name == "vit"
    named = load_model("timm:resnet18.a1_in1k")
    assert named.name == "resnet18.a1_in1k"
    assert named.source.sha256 == load_model(resnet).source.sha256, "the digest is that of the weights"
    assert load_model("hf:timm/resnet18.a1_in1k").source.sha256 == named.source.sha256
    card = peek_card("hf:some/vit")
    assert card is not None and card.labels is not None and card.labels.names == NAMES


@pytest.mark.parametrize(
    ("reference", "said", "do"),
    [
        ("hf:some/where", "some/where is not on this machine", "--download"),
        ("timm:resnet18.a1_in1k", "timm/resnet18.a1_in1k is not on this machine", "--download"),
        ("torchvision:resnet18@IMAGENET1K_V1", "resnet18-f37072fd.pth", "--download"),
    ],
)
def test_nothing_is_downloaded_unasked(reference: str, said: str, do: str) -> None:
    with pytest.raises(EvaluationError, match=said) as error:
        load_model(reference)
    assert do in error.value.do


@pytest.mark.parametrize(
    ("reference", "suggested"),
    [
        ("torchvision:resnet81", "resnet18"),
        ("torchvision:resnet18@IMAGENET1K_V3", "IMAGENET1K_V1"),
        ("torchvision:resnet18", "torchvision:resnet18@IMAGENET1K_V1"),
        ("timm:resnet81", "resnet18"),
        ("timm:resnet18.a1_in1", "a1_in1k"),
        ("tim:resnet18", "timm"),
        ("huggingface:microsoft/resnet-50", "hf:"),
        ("hf:some//where", "hf:microsoft/resnet-50"),
    ],
)
def test_a_wrong_name_suggests_the_right_one(reference: str, suggested: str) -> None:
    with pytest.raises(UsageError) as error:
        load_model(reference)
    assert suggested in error.value.do


def test_a_repository_that_is_not_in_the_cache_suggests_one_that_is(cache: Path, vit: Path) -> None:
    in_cache(cache, "some/vit-tiny", vit)
    with pytest.raises(EvaluationError) as error:
        load_model("hf:some/vit_tiny")
    assert "'some/vit-tiny'" in error.value.do


@pytest.mark.parametrize(
    ("package", "reference", "extra"),
    [("timm", "timm:resnet18", "robcert[timm]"), ("transformers", "", "robcert[hf]"),
     ("huggingface_hub", "hf:some/vit", "robcert[hf]")],
)  # fmt: skip
def test_without_an_extra_the_message_names_it(
    package: str, reference: str, extra: str, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EvaluationError, match=f"needs {package}, which is not installed") as error:
        load_model(reference or vit)
    assert extra in error.value.do


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auto_map": {"AutoModel": "modeling.Mine"}}, "Python code of its own"),
        ({"custom_pipelines": {"x": {}}}, "Python code of its own"),
        ({"model_type": "bert"}, "no image classifier"),
        ({"architectures": ["ViTModel"]}, "ViTModel, which is no image classifier"),
        ({"model_type": None}, "no library that robcert knows"),
        ({"hidden_size": {"a": 1}}, "settings of another network"),
        ({"hidden_size": 48}, "do not fit"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"num_hidden_layers": 1}, "more"),
    ],
)
def test_a_config_of_transformers_that_is_refused(vit: Path, changes: dict[str, Any], said: str) -> None:
    edit(vit, **changes)
    with pytest.raises(EvaluationError, match=said):
        load_model(vit)


def test_settings_that_are_none_of_the_class_do_nothing(vit: Path) -> None:
    """Kernels, quantisation and adapters are chosen by such settings."""
    edit(vit, attn_implementation="kernels-community/evil", quantization_config="x", use_kernels=True)
    model = load_model(vit)
    assert any("attn_implementation" in note and "left out" in note for note in model.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "hf-hub:some/where"}, "no classifier called"),
        ({"architecture": "resnet81"}, "no classifier called 'resnet81'"),
        ({"model_args": {"checkpoint_path": "evil.pth"}}, "no option that a card may set"),
        ({"model_args": {"pretrained": True}}, "no option that a card may set"),
        ({"pretrained_cfg": {"mean": ["x"]}}, "not understood"),
        ({"pretrained_cfg": []}, "are tables"),
    ],
)
def test_a_config_of_timm_that_is_refused(resnet: Path, changes: dict[str, Any], said: str) -> None:
    edit(resnet, **changes)
    with pytest.raises(EvaluationError, match=said):
        load_model(resnet)


def test_pickled_weights_are_refused_by_name(vit: Path) -> None:
    (vit / "model.safetensors").rename(vit / "pytorch_model.bin")
    with pytest.raises(EvaluationError, match=r"only pytorch_model\.bin, which is no safetensors"):
        load_model(vit)


def test_weights_in_several_files(vit: Path) -> None:
    whole = load_file(vit / "model.safetensors")
    names = sorted(whole)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, some in parts.items():
        save_file({name: whole[name] for name in some}, vit / file)
    x = torch.rand(2, 3, SIDE, SIDE)
    expected = load_model(vit).module(x)
    (vit / "model.safetensors").unlink()
    table = {name: file for file, some in parts.items() for name in some}
    (vit / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    assert torch.equal(load_model(vit).module(x), expected)
    (vit / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(table, "../a.safetensors")})
    )
    with pytest.raises(EvaluationError, match="names no files of safetensors beside it"):
        load_model(vit)


def test_a_normalisation_that_is_not_known_is_asked_for(vit: Path) -> None:
    (vit / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match=r"no preprocessor_config\.json") as error:
        load_model(vit)
    assert "--mean" in error.value.do
    assert load_model(vit, mean=(0.5,), std=(0.5,)).pipeline is None


def test_what_is_given_goes_before_what_the_library_says(vit: Path) -> None:
    edit(vit, "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3])
    x = torch.rand(2, 3, SIDE, SIDE)
    said, given = load_model(vit), load_model(vit, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    assert torch.allclose(said.module(x), given.module(x), atol=1e-5)
    assert not torch.allclose(said.module(x), load_model(vit, mean=(0.0,), std=(1.0,)).module(x), atol=1e-3)
    assert said.source.network != given.source.network


def test_random_weights_are_asked_for_and_always_the_same(vit: Path) -> None:
    shape = (3, SIDE, SIDE)
    first = load_model("torchvision:squeezenet1_1", random_weights=True, input_shape=shape, num_classes=5)
    again = load_model("torchvision:squeezenet1_1", random_weights=True, input_shape=shape, num_classes=5)
    assert first.source == again.source and first.num_classes == 5 and first.pipeline is None
    named = load_model("torchvision:squeezenet1_1@IMAGENET1K_V1", random_weights=True, input_shape=shape)
    assert named.pipeline == Pipeline((37,), (SIDE, SIDE)) and len(named.labels.names) == 1000
    with pytest.raises(UsageError, match="holds weights, so --random-weights has no effect"):
        load_model(vit, random_weights=True)
    with pytest.raises(UsageError, match="repository with weights"):
        load_model("hf:some/vit", random_weights=True)


def test_weights_of_torchvision_in_its_cache(tmp_path: Path) -> None:
    from robcert.network.architecture import build
    from robcert.network.request import Request

    torch.manual_seed(0)
    module = build(Request("torchvision:squeezenet1_1", num_classes=1000)).eval()
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(module.state_dict(), place / "squeezenet1_1-b8a52dc0.pth")
    model = load_model("torchvision:squeezenet1_1@IMAGENET1K_V1", input_shape=(3, SIDE, SIDE))
    x = torch.rand(2, 3, SIDE, SIDE)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        assert torch.allclose(model.module(x), module((x - mean) / std), atol=1e-5)
    assert model.labels.names[0] == "tench"


def test_a_file_of_weights_with_a_name_of_timm(
    folders: dict[Small, tuple[Path, torch.nn.Module]], tmp_path: Path
) -> None:
    folder, _ = folders[RESNET]
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "net.pth")
    model = load_model(tmp_path / "net.pth", arch="timm:resnet10t", input_shape=(3, SIDE, SIDE))
    x = torch.rand(2, 3, SIDE, SIDE)
    assert torch.allclose(model.module(x), load_model(folder).module(x), atol=1e-5)
    assert model.pipeline is not None and model.pipeline.library == "timm"
    assert model.card is not None and model.card["architecture"] == "timm:resnet10t"


def test_an_architecture_for_what_has_one_is_refused(vit: Path) -> None:
    with pytest.raises(UsageError, match="--arch has no effect"):
        load_model(vit, arch="cnn")
    with pytest.raises(UsageError, match="--arch hf:some/vit"):
        load_model(vit / "model.safetensors", arch="hf:some/vit")
