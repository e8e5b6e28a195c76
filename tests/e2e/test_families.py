"""Networks that nobody here wrote: the classifiers of torchvision and timm, as weights and from both ONNX exporters.

Their weights are random, and labels are their own answers. The slow set has all of them in all three forms; the default
set has a few of them, each in one.
"""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robcert.cli.main import _run
from robcert.network.fold import copy_module
from robcert.vision import torchvision

IMAGES = 8

FORMS = ("weights", "dynamo", "script")

# Name, side of an image, the form in the default set.
TORCHVISION = [
    ("alexnet", 64, ""), ("convnext_tiny", 64, ""), ("densenet121", 64, ""), ("efficientnet_b0", 64, ""),
    ("efficientnet_v2_s", 64, ""), ("googlenet", 64, ""), ("inception_v3", 96, ""), ("maxvit_t", 224, ""),
    ("mnasnet0_5", 64, "weights"), ("mobilenet_v2", 64, ""), ("mobilenet_v3_small", 64, "dynamo"),
    ("regnet_x_400mf", 64, ""), ("resnet18", 64, ""), ("resnext50_32x4d", 64, ""),
    ("shufflenet_v2_x0_5", 64, ""), ("squeezenet1_1", 64, "script"), ("swin_t", 64, ""), ("swin_v2_t", 64, ""),
    ("vgg11_bn", 64, ""), ("vit_b_16", 224, ""), ("wide_resnet50_2", 64, ""),
]  # fmt: skip
TIMM = [
    ("resnet10t", 64, ""), ("convnext_atto", 64, ""), ("mobilenetv3_small_050", 64, ""),
    ("efficientnet_lite0", 64, ""), ("regnetx_002", 64, "weights"), ("ghostnet_050", 64, ""),
    ("repvgg_a0", 64, ""), ("vit_tiny_patch16_224", 224, ""), ("mixer_s32_224", 224, ""),
    ("levit_128s", 224, ""), ("xcit_nano_12_p16_224", 224, ""), ("poolformer_s12", 64, ""),
    ("swin_tiny_patch4_window7_224", 224, ""), ("edgenext_xx_small", 64, ""), ("tf_efficientnetv2_b0", 64, ""),
]  # fmt: skip


def cases(names: list[tuple[str, int, str]]) -> list[Any]:
    return [
        pytest.param(name, side, form, id=f"{name}-{form}", marks=[] if form == default else [pytest.mark.slow])
        for name, side, default in names
        for form in FORMS
    ]


def of_torchvision(name: str) -> nn.Module:
    torchvision()
    models = importlib.import_module("torchvision.models")
    options: dict[str, Any] = (
        {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    )
    return models.get_model(name, weights=None, **options)


def of_timm(name: str) -> nn.Module:
    torchvision()
    timm = importlib.import_module("timm")
    return timm.create_model(name, pretrained=False)


def calibrate(module: nn.Module, x: torch.Tensor) -> None:
    """Give batch norms the statistics of images: else what is said of all images drowns what is said of one."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
    with torch.no_grad():
        module.train()(x)
    module.eval()


def lively(module: nn.Module, side: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The network with a head that tells images apart, some images, and its answers, at least two among them."""
    module = module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and not bool(layer.weight.any()):
            nn.init.normal_(layer.weight, std=0.1)  # heads that begin at 0 give one answer
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x = torch.rand(4 * IMAGES, 3, side, side, generator=generator) * torch.rand(
            4 * IMAGES, 3, 1, 1, generator=generator
        )
        x = (255 * x).round() / 255
        calibrate(module, x)
        with torch.no_grad():
            logits = module(x)
            # Random networks prefer one class: take off what all images share.
            heads = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.bias is not None]
            if heads and heads[-1].bias is not None and heads[-1].bias.shape == logits.shape[1:]:
                heads[-1].bias -= logits.mean(0)
                logits = module(x)
        y = logits.argmax(1)
        first = torch.stack([(y == k).nonzero()[0, 0] for k in y.unique()])[:IMAGES]
        if len(first) >= 2:
            rest = torch.tensor([k for k in range(len(x)) if k not in first.tolist()])[: IMAGES - len(first)]
            rows = torch.cat([first, rest]).long()
            return module, x[rows], y[rows]
    raise AssertionError("one answer for all images: this network tests nothing")


def attacked(
    file: str, x: torch.Tensor, y: torch.Tensor, capsys: pytest.CaptureFixture[str], *more: str
) -> dict[str, Any]:
    np.savez("images.npz", x=x.numpy(), y=y.numpy())
    code = _run(["attack", file, "--data", "npz:images.npz", "--norm", "linf", "--eps", "2/255", "--plan", "pgd:5",
                 "--n", str(IMAGES), "--certify", "none", "--run", f"run-{file}", "--format", "json",
                 *more])  # fmt: skip
    told = capsys.readouterr()
    assert code == 0, told.err
    assert "defect of robcert" not in told.err
    (model,) = json.loads(told.out)["models"]
    assert model["natural_correct"] == model["n"] == IMAGES, "labels are its own answers"
    (leg,) = [leg for leg in model["legs"] if leg["attack"] == "pgd" and leg["iterations"] == 5]
    assert leg["entered"] == IMAGES
    assert leg["backwards"] >= IMAGES
    stored = list(Path(f"run-{file}").glob("network-*"))
    assert len(stored) == 1 - len(model["missing"])
    for text in model["missing"]:
        assert told.err.index(text[:40]) < told.err.index("pgd:5: broke"), "said before the first leg"
        with capsys.disabled():
            print(f" [{file}, {more[1] if more else ''}: {text}]")
    return model


def through(
    module: nn.Module, side: int, form: str, slow: bool, capsys: pytest.CaptureFixture[str], *architecture: str
) -> None:
    module, x, y = lively(module, side)
    if form == "weights":
        torch.save(module.state_dict(), "weights.pt")
        attacked("weights.pt", x, y, capsys, *architecture)
        return
    dynamo = form == "dynamo"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                copy_module(module), (x[:2],), f"{form}.onnx", dynamo=dynamo, input_names=["images"],
                dynamic_shapes=({0: "n"},) if dynamo else None,
                dynamic_axes=None if dynamo else {"images": {0: "n"}, "logits": {0: "n"}},
                output_names=["logits"], verbose=False,
            )  # fmt: skip
        except Exception:  # torch's exporter, which has no form for this network
            assert slow, "those of the default set can be written"
            return
    attacked(f"{form}.onnx", x, y, capsys)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


@pytest.mark.parametrize(("name", "side", "form"), cases(TORCHVISION))
def test_torchvision(name: str, side: int, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    through(
        of_torchvision(name), side, form, (name, side, form) not in TORCHVISION, capsys, "--arch", f"torchvision:{name}"
    )


@pytest.mark.parametrize(("name", "side", "form"), cases(TIMM))
def test_timm(name: str, side: int, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    through(
        of_timm(name),
        side,
        form,
        (name, side, form) not in TIMM,
        capsys,
        "--arch",
        f"timm.models:{name}",
        "--classes",
        "1000",
    )
