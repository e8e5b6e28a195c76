"""torchvision's classifiers through both exporters of torch: the same logits, and attacks work on them."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
import torch

from robcert.network import from_module, load_model
from robcert.types import Dataset, Threat
from robcert.vision import torchvision

NAMES = ("resnet18", "vgg11_bn", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "densenet121",
         "squeezenet1_1", "regnet_x_400mf", "shufflenet_v2_x1_0", "convnext_tiny", "vit_b_16")  # fmt: skip
DEFAULT = (("squeezenet1_1", True), ("mobilenet_v3_small", False))
CASES = [
    pytest.param(name, dynamo, marks=[] if (name, dynamo) in DEFAULT else pytest.mark.slow)
    for name in NAMES
    for dynamo in (False, True)
]


@pytest.mark.parametrize(("name", "dynamo"), CASES)
def test_import_and_attack(tmp_path: Path, name: str, dynamo: bool, capsys: pytest.CaptureFixture[str]) -> None:
    from robcert.runs.api import attack

    # At 64, vgg's pooling enlarges, which TorchScript's exporter refuses. vit has one size.
    size = 224 if name in ("vgg11_bn", "vit_b_16") else 64
    torch.manual_seed(0)
    net = torchvision().models.get_model(name, weights=None, num_classes=10).eval()
    if name == "vit_b_16":  # its last layer starts at 0
        torch.nn.init.normal_(net.heads.head.weight)  # pyright: ignore
    x = torch.rand(2, 3, size, size)
    path = tmp_path / "a.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            sizes = ({0: torch.export.Dim("n", min=1)},)
            torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=sizes, verbose=False, external_data=False)
        else:
            torch.onnx.export(net, (x,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
    model = load_model(path)
    with torch.no_grad():
        expected, found = net(x), model.module(x)
        worst = float((found - expected).abs().max() / expected.abs().max())
        y = expected.argmax(dim=1)
    assert worst <= 1e-4
    data = Dataset("random", "test", x, y, torch.arange(2), tuple("abcdefghij"))
    kept = from_module(net, (3, size, size), 10)
    records = [
        attack(one, data, Threat("linf", (0.5,)), "pgd:3", certify="none", search_precision="float32")
        for one in (model, kept)
    ]
    with capsys.disabled():
        print(f"\n{name} {'dynamo' if dynamo else 'torchscript'}: {worst:.1e} of the largest |logit|")
    assert records[0].models[0].legs[0].backwards > 0
    assert not any(w.name in ("zero_gradient", "non_finite") for w in records[0].models[0].warnings)
