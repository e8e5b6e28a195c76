"""Rewritings change no answer and no gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from robcert.accel.rewrites import pool_before_relu, use_faster_layers
from robcert.nn.l2nnn import l2nnn


def network(pool: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(5)).double()


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2, 1)]
)
def test_pooling_goes_first_and_nothing_changes(pool: nn.Module) -> None:
    net, x = network(pool), torch.randn(20, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    net(x)
    other = copy.deepcopy(net)
    pool_before_relu(other)
    assert [type(layer) for layer in other[1:3]] == [nn.MaxPool2d, nn.ReLU]
    assert torch.equal(net(x), other(x))
    weights = torch.randn(20, 5, dtype=torch.float64)
    (one,), (two,) = (torch.autograd.grad((n(x) * weights).sum(), x) for n in (net, other))
    assert torch.equal(one, two)
    assert bool((one != 0).any())


def test_what_is_no_such_pair_stays() -> None:
    kept = nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.AvgPool2d(2), nn.ReLU(), nn.MaxPool2d(2, return_indices=True))
    before = [type(layer) for layer in kept]
    pool_before_relu(kept)
    assert [type(layer) for layer in kept] == before


class Skipping(nn.Module):
    """A network that uses a block twice, and reads the shape of its pictures in more than one place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2))
        self.watched = nn.Conv2d(16, 16, 3, stride=2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, 5) of images (n, 1, 24, 24)."""
        return self.head(self.watched(self.block(self.block(self.first(x)))))


def test_the_faster_layers_answer_alike() -> None:
    torch.manual_seed(0)
    net, x = Skipping().double(), torch.randn(7, 1, 24, 24, dtype=torch.float64, requires_grad=True)
    other = copy.deepcopy(net).requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    use_faster_layers(other, x.detach())
    replaced = [type(layer).__name__ for layer in other.modules() if ".layers." in type(layer).__module__]
    assert replaced == ["ReadPicture", "FlattenPixels"]
    assert type(list(other.head)[3]) is nn.Flatten, "nothing lies behind it by pixels"
    weights = torch.randn(7, 5, dtype=torch.float64)
    (one,), (two,) = (torch.autograd.grad((n(x) * weights).sum(), x) for n in (net, other))
    torch.testing.assert_close(net(x), other(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_the_layers_of_a_nonexpansive_network_answer_alike() -> None:
    torch.manual_seed(0)
    net = l2nnn((1, 28, 28), 10, channels=[16], kernel=4, stride=2, hidden=[24], label_hidden=[8, 8]).double()
    x = torch.rand(5, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    other = copy.deepcopy(net).requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    use_faster_layers(other, x.detach())
    replaced = [type(layer).__name__ for layer in other.modules() if ".layers." in type(layer).__module__]
    assert replaced == ["ReadPicture", "PoolNorms", "FlattenPixels"]
    weights = torch.randn(5, 10, dtype=torch.float64)
    (one,), (two,) = (torch.autograd.grad((n(x) * weights).sum(), x) for n in (net, other))
    torch.testing.assert_close(net(x), other(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_a_layer_that_somebody_watches_stays() -> None:
    net, seen = Skipping(), []
    net.first[0].register_forward_hook(lambda module, given, result: seen.append(type(module)))
    use_faster_layers(net, torch.randn(2, 1, 24, 24))
    seen.clear()
    net(torch.randn(2, 1, 24, 24))
    assert seen == [nn.Conv2d]


def test_a_pooling_goes_by_rows_only_in_front_of_a_relu() -> None:
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.MaxPool2d(2))
    use_faster_layers(net, torch.randn(2, 1, 14, 14))
    assert [type(net[k]).__name__ for k in (1, 4)] == ["MaxPoolByRows", "MaxPool2d"]
    pool = nn.MaxPool2d(2)
    twice = nn.Sequential(nn.Conv2d(1, 16, 3), pool, nn.ReLU(), nn.Conv2d(16, 16, 3), pool)
    use_faster_layers(twice, torch.randn(2, 1, 14, 14))
    assert twice[1] is pool, "one pooling in two places"
