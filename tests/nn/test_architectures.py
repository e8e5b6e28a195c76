"""Every registered architecture: sizes, both tracers, and what wrong options say."""

from __future__ import annotations

import json

import pytest
import torch
from torch import fx

from robcert.nn import architectures

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar": (3, 32, 32)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", architectures.names())
def test_logits_for_every_size(name: str, shape: tuple[int, ...]) -> None:
    net = architectures.get(name)(shape, 7).eval()
    x = torch.rand(3, *shape)
    logits = net(x)
    assert logits.shape == (3, 7)
    assert torch.allclose(logits[1:2], net(x[1:2]), atol=1e-5), "an image's answer does not depend on the others"
    assert torch.equal(fx.symbolic_trace(net)(x), logits)


@pytest.mark.parametrize("name", architectures.names())
def test_exported_with_a_dynamic_batch(name: str) -> None:
    net = architectures.get(name)((1, 8, 8), 10).eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(net, (torch.rand(4, 1, 8, 8),), dynamic_shapes=({0: batch},)).module()
    for size in (1, 2, 33):
        x = torch.rand(size, 1, 8, 8)
        assert torch.allclose(exported(x), net(x), atol=1e-5)


def test_options_may_come_from_json() -> None:
    options = json.loads('{"channels": [4], "hidden": [8, 8], "kernel": 5, "batch_norm": true}')
    net = architectures.get("cnn")([3, 16, 16], 4, **options)
    assert net(torch.rand(2, 3, 16, 16)).shape == (2, 4)
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in net)


@pytest.mark.parametrize("name", ["cnn", "l2nnn", "l2nnn-resnet"])
def test_even_kernels_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="kernel side is 4"):
        architectures.get(name)((1, 8, 8), 10, kernel=4)


def test_l2nnn_with_a_stride() -> None:
    net = architectures.get("l2nnn")((1, 28, 28), 10, channels=[4], kernel=4, stride=2, hidden=[8])
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="kernel side is 5 with stride 2"):
        architectures.get("l2nnn")((1, 8, 8), 10, kernel=5, stride=2)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "options",
    [{"label_hidden": [6]}, {"heads": "single"}, {"activation": "relu", "pooling": "max"}, {"divide_before": False}],
)
def test_options_of_l2nnn(options: dict[str, object], shape: tuple[int, ...]) -> None:
    net = architectures.get("l2nnn")(shape, 7, channels=[4], hidden=[8], **options).eval()
    x = torch.rand(3, *shape)
    assert net(x).shape == (3, 7)
    assert torch.equal(fx.symbolic_trace(net)(x), net(x))


def test_options_of_l2nnn_that_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="expected to be 'multi'"):
        architectures.get("l2nnn")((1, 8, 8), 10, label_hidden=[4], heads="single")
