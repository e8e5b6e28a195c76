"""Rewritings change no answer and no gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from robcert.engine.rewrites import SplitInput, pool_before_relu


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


OPTIONS = [{}, {"padding": 1}, {"stride": 2, "padding": "valid"}, {"dilation": 2, "bias": False}]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_split_picture_is_read_to_sixteen_bits(options: dict[str, object]) -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 8, 3, **options)  # type: ignore[arg-type]
    for own in layer.parameters():
        own.data = own.data.bfloat16().float()  # their rounding is not the question here
    split, x = SplitInput(layer), torch.rand(6, 3, 11, 11, requires_grad=True)
    assert SplitInput.fits(layer)
    exact = layer(x)
    # One rounding of the result to bfloat16 (2^-9), and 2^-17 of what is summed.
    error = (split(x).float() - exact).abs()
    assert bool((error <= 2**-8 * exact.abs() + 2**-14).all())
    weights = torch.randn_like(exact).bfloat16()
    (one,) = torch.autograd.grad((exact * weights.float()).sum(), x)
    (two,) = torch.autograd.grad((split(x) * weights).sum(), x)
    assert float((one - two).norm() / one.norm()) <= 2**-7


def test_other_layers_do_not_fit() -> None:
    mirrored = nn.Conv2d(1, 4, 3, padding_mode="reflect")
    for layer in (nn.Conv2d(8, 8, 3), nn.Conv2d(2, 4, 3, groups=2), mirrored, nn.Linear(3, 4)):
        assert not SplitInput.fits(layer)
