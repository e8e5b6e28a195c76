"""Folding changes the layers, never the function."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from robcert.network import from_module
from robcert.network.fold import copy_module, fold

from .conftest import CLASSES, SHAPE, images, residual_net, scramble, small_net

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def norms(net: nn.Module) -> int:
    return sum(isinstance(layer, NORMS) for layer in net.modules())


def same(net: nn.Module, folded: nn.Module, atol: float = 1e-5) -> None:
    with torch.no_grad():
        assert torch.allclose(net(images()), folded(images()), rtol=1e-5, atol=atol)


def test_a_residual_net_is_folded_whole() -> None:
    net = residual_net()
    folded = fold(copy.deepcopy(net), SHAPE, (0, 1))
    assert (norms(net), norms(folded)) == (6, 0)
    same(net, folded)
    assert torch.export.export(folded, (images(2),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()(
        images(7)
    ).shape == (7, CLASSES)


def test_a_transposed_convolution_is_folded() -> None:
    net = scramble(
        nn.Sequential(
            nn.ConvTranspose2d(1, 6, 2, stride=2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 64, CLASSES)
        )
    )
    folded = fold(copy.deepcopy(net), SHAPE, (0, 1))
    assert norms(folded) == 0
    same(net, folded)


class Branching(nn.Module):
    """No trace: its path depends on the number of images; but its blocks can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 10_000:
            return self.head(x.flatten(1))
        return self.head(self.block(x).flatten(1))


def test_what_cannot_be_traced_is_folded_in_its_parts() -> None:
    net = scramble(Branching())
    folded = fold(copy.deepcopy(net), SHAPE, (0, 1))
    assert norms(folded) == 0
    same(net, folded)


class ReadTwice(nn.Module):
    """The convolution is read before and after its BatchNorm: folding would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv(x)
        return self.head((self.norm(inner) + inner).flatten(1))


class CalledTwice(ReadTwice):
    """One convolution, called twice with the BatchNorm after the second call only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(torch.relu(self.conv(x)))).flatten(1))


class ReadsItsNorm(ReadTwice):
    """Python that reads an attribute of the BatchNorm, which an Identity has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((self.norm(self.conv(x)) * self.norm.eps).flatten(1))


@pytest.mark.parametrize("kind", [ReadTwice, CalledTwice, ReadsItsNorm])
def test_what_must_not_be_folded_is_left_alone(kind: type[nn.Module]) -> None:
    net = scramble(kind())
    folded = fold(copy.deepcopy(net), SHAPE, (0, 1))
    assert norms(folded) == 1
    same(net, folded, atol=0)


def test_batchnorm_without_running_statistics_is_left_alone_and_warned_of() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(16, CLASSES)
    ).eval()
    model = from_module(net, SHAPE, CLASSES)
    assert norms(model.module) == 1
    assert any("other images of the batch" in warning for warning in model.warnings)


def test_a_fold_that_does_not_agree_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    from robcert.network import fold as module

    def wrong(net: nn.Module) -> int:
        net[0].bias.data.add_(1)
        return 1

    monkeypatch.setattr(module, "fold_batchnorms", wrong)
    net = small_net()
    same(net, fold(copy.deepcopy(net), SHAPE, (0, 1)), atol=0)


class Doubled(nn.Module):
    """A learnt parametrisation: W' = 2 W / (1 + |W|)."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight / (1 + weight.abs())


@pytest.mark.parametrize(
    "style", ["custom", "weight_norm", "spectral_norm", "orthogonal", "old_weight", "old_spectral"]
)
def test_parametrisations_are_computed_once(style: str) -> None:
    net = small_net()
    apply = {
        "custom": lambda layer: torch.nn.utils.parametrize.register_parametrization(layer, "weight", Doubled()),
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
        "old_weight": weight_norm,
        "old_spectral": spectral_norm,
    }[style]
    with pytest.warns() if style == "old_weight" else _nothing():
        apply(net[0])
    apply_to_linear = apply if style != "old_weight" else parametrizations.weight_norm
    apply_to_linear(net[3])
    net.train()(images())  # a spectral norm needs a step to have its vectors
    net.eval()
    expected = net(images()).detach()
    model = from_module(net, SHAPE, CLASSES)
    assert torch.allclose(model.module(images()), expected, atol=1e-6)
    assert {type(layer) for layer in model.module.modules()} == {
        nn.Sequential,
        nn.Conv2d,
        nn.ReLU,
        nn.Flatten,
        nn.Linear,
    }
    assert set(dict(model.module.named_parameters())) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert not model.module[0]._forward_pre_hooks
    assert torch.equal(net(images()), expected)  # the user's own network is as it was
    assert any("parametrizations" in key or "_v" in key or "_orig" in key for key in net.state_dict())


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_a_copy_of_an_old_weight_norm_is_independent() -> None:
    net = nn.Sequential(nn.Flatten(), torch.nn.utils.weight_norm(nn.Linear(16, CLASSES)))
    net(images())
    copied = copy_module(net)
    assert torch.equal(copied(images()), net(images()))


def test_robcert_layers_stay_whole_in_a_trace() -> None:
    from robcert.network.fold import LayerTracer
    from robcert.nn import architectures

    net = architectures.get("l2nnn")(input_shape=(1, 8, 8), num_classes=4, channels=[4, 4], hidden=[8]).eval()
    graph = LayerTracer().trace(net)
    called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    assert called == {name for name, layer in net.named_modules() if name and not list(layer.children())}
    assert not [node for node in graph.nodes if node.op in ("call_function", "call_method")]


def test_two_batchnorms_in_a_row_are_not_folded_into_each_other() -> None:
    """A BatchNorm is no layer to fold into: its weight would become a matrix, and the backward pass would fail."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.rand(4, 1, 4, 4, requires_grad=True)
    expected = module(x)
    folded = fold(module, (1, 4, 4), (0.0, 1.0))
    logits = folded(x)
    logits.sum().backward()
    assert torch.allclose(logits, expected, atol=1e-6)
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
