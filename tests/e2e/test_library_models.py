"""Networks of timm, transformers and torchvision in the form in which their library saves them, through every command.

Their weights are random and labels are their own answers. The slow set has all of them; the default set draws a few.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from library_models import MODELS, NAMES, SIDE, Small, saved
from PIL import Image

from robcert.cli.main import run
from robcert.data.picture import Picture
from robcert.data.prepare import prepared
from robcert.network import load_model
from robcert.types import LoadedModel

IMAGES = 8


def call(arguments: list[str]) -> int:
    """The command in this process, the same code as the installed script."""
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(arguments: list[str]) -> LoadedModel:
    flags = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    shape = tuple(map(int, flags["--input-shape"].split(","))) if "--input-shape" in flags else None
    return load_model(arguments[0], arch=flags.get("--arch"), input_shape=shape)


def pictures(model: LoadedModel) -> None:
    """Folders of pictures, called as the classes, with the network's own answers: at least two of them."""
    numbers = np.random.default_rng(0)
    found: dict[int, list[Any]] = {}
    for _ in range(40):
        # Colours and stripes: random networks tell these apart.
        base = numbers.integers(0, 256, (16, 1, 1, 3)) * np.ones((1, SIDE, SIDE, 1))
        wave = 60 * np.sin(numbers.uniform(0, 2, (16, 1, 1, 1)) * np.arange(SIDE).reshape(1, 1, SIDE, 1))
        x = np.clip(base + wave, 0, 255).astype(np.uint8)
        assert model.pipeline is not None
        seen = prepared([Picture(picture) for picture in x], [Path("picture")] * len(x), model.pipeline)
        pixels = torch.from_numpy(np.stack([picture.pixels for picture in seen]))
        answers = model.module(pixels.permute(0, 3, 1, 2).float() / 255).argmax(1).tolist()
        for picture, answer in zip(x, answers, strict=True):
            found.setdefault(answer, []).append(picture)
        if len(found) >= 2 and sum(map(len, found.values())) >= IMAGES:
            break
    assert len(found) >= 2, "one answer for all pictures: this network tests nothing"
    left = IMAGES
    for place, (answer, some) in enumerate(sorted(found.items(), key=lambda one: len(one[1]))):
        name = model.labels.names[answer] if model.labels.names else str(answer)
        (folder := Path("pictures") / name).mkdir(parents=True)
        most = max(1, left - (len(found) - place - 1))
        for number, picture in enumerate(some[: min(most, IMAGES // 2) if place + 1 < len(found) else left]):
            Image.fromarray(picture).save(folder / f"{number}.png")
            left -= 1


def evenly(module: torch.nn.Module, save: Callable[[], object]) -> None:
    """Let batch norms and the last bias take off what all inputs share: random networks then give several answers."""
    parts = list(module.modules())
    bias = [part for part in parts if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)][-1].bias
    assert bias is not None
    x = torch.rand(64, 3, 1, 1) + 0.3 * torch.randn(64, 3, SIDE, SIDE)
    norms = [part for part in parts if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        module(x)
        module.eval()
        answer = module(x)
        logits = answer if isinstance(answer, torch.Tensor) else answer.logits
        if bias.shape == logits.shape[1:]:
            bias -= logits.mean(0)
    save()


@pytest.mark.drawn(20)
@pytest.mark.parametrize("small", MODELS, ids=str)
def test_commands(
    small: Small, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    module, arguments = saved(small, Path("net"))
    evenly(module, lambda: saved(small, Path("net"), module))
    model = loaded(arguments)
    pictures(model)
    threat = ["--data", "folder:pictures", "--norm", "linf", "--eps", "1/255", "--format", "json"]

    (attacked,) = told(capsys, "attack", *arguments, *threat, "--plan", "pgd:5", "--certify", "none")["models"]
    assert attacked["natural_correct"] == attacked["n"] == IMAGES, "labels are its own answers"
    assert attacked["legs"][0]["entered"] == IMAGES

    code = call(["certify", *arguments, *threat, "--method", "gap"])
    said = capsys.readouterr()
    record_property("certify", outcome(code, said.err))
    if code == 0:
        (certified,) = json.loads(said.out)["models"]
        assert certified["natural_correct"] == IMAGES

    code = call(["norms", *arguments, "--format", "json"])
    record_property("norms", outcome(code, capsys.readouterr().err))

    fields = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    entry = {"path": arguments[0], "name": small.name}
    entry |= {"arch": fields["--arch"]} if "--arch" in fields else {}
    shape = ", input_shape = [3, 32, 32]" if "--input-shape" in fields else ""
    Path("policy.toml").write_text(
        "[gate]\nmodels = [{ " + ", ".join(f'{key} = "{value}"' for key, value in entry.items()) + shape + " }]\n"
        'data = "folder:pictures"\n\n[[gate.require]]\nname = "right"\nnatural_accuracy = 1.0\n\n'
        '[[gate.require]]\nname = "not broken by noise"\nnorm = "linf"\neps = "1/255"\nattacked_accuracy = 0.01\n'
        'plan = "pgd:5"\n'
    )
    code = call(["gate", "--policy", "policy.toml", "--format", "json"])
    said = capsys.readouterr()
    assert code in (0, 1) and "defect of robcert" not in said.err, said.err  # random weights may break at 1/255
    verdict = json.loads(said.out)["verdict"]
    assert verdict == ("failed" if code else "empirical")  # nothing is required of a certificate
    record_property("gate", verdict)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = call(list(arguments))
    said = capsys.readouterr()
    assert "defect of robcert" not in said.err
    assert code == 0, said.err
    return json.loads(said.out)


def outcome(code: int, error: str) -> str:
    """What a command said: it is done, or refused by the name of what is not understood, with what still works."""
    assert "defect of robcert" not in error
    if code == 0:
        return "ok"
    found, do = error.strip().splitlines()[-2:]
    assert code == 3 and "attacks" in do, error
    return found


def test_a_name_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = ["torchvision:squeezenet1_1", "--random-weights", "--input-shape", "3,32,32", "--classes", "4"]
    np.savez("images.npz", x=np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32), y=[0, 1, 2, 3])
    told(capsys, "attack", *name, "--data", "npz:images.npz", "--norm", "linf", "--eps", "1/255", "--plan", "pgd:2",
         "--certify", "none", "--format", "json")  # fmt: skip
    assert call(["attack", name[0], "--data", "npz:images.npz", "--norm", "linf", "--eps", "1/255"]) == 2
    assert "--random-weights" in capsys.readouterr().err
    told(capsys, "export", *name, "net.safetensors", "--format", "json")
    assert load_model("net.safetensors").num_classes == len(NAMES)


def test_an_export_keeps_the_pipeline_and_the_classes(capsys: pytest.CaptureFixture[str]) -> None:
    small = next(one for one in MODELS if str(one) == "transformers-ViT")
    _, arguments = saved(small, Path("net"))
    model = loaded(arguments)
    for target in ("net.pt2", "net.onnx"):
        told(capsys, "export", *arguments, target, "--format", "json")
        again = load_model(target)
        assert (again.pipeline, again.labels) == (model.pipeline, model.labels)
    assert call(["export", *arguments, "net.safetensors"]) == 2
    assert "net.onnx" in capsys.readouterr().err


def test_zoo_models_import_neither_timm_nor_transformers() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from robcert.cli.main import _run; "
        "_run(['attack', 'digits-plain', '--norm', 'l2', '--eps', '0.1', '--n', '1', '--plan', 'pgd:2']); "
        "print({'timm', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "set()"
