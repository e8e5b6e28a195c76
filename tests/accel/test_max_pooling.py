"""Max-pooling by rows in front of a ReLU: the answers and gradients of torch's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robcert.accel.layers.max_pooling import MaxPoolByRows


def by_pixels(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def result_and_gradient(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the result behind a ReLU and the gradient of its sum with random integers as weights."""
    x = x.detach().requires_grad_(True)
    result = nn.Sequential(layer, nn.ReLU())(x)
    weights = torch.randint(1, 100, result.shape, generator=torch.Generator().manual_seed(0)).to(result.dtype)
    (gradient,) = torch.autograd.grad((result * weights).sum(), x)
    return result.detach(), gradient


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([2, 3]), st.integers(1, 4), st.integers(1, 2), st.integers(1, 3))
def test_distinct_entries_of_a_window(side: int, channels: int, high: int, wide: int) -> None:
    shape = (1, channels, high * side, wide * side)
    torch.manual_seed(high + wide)
    count = channels * high * wide * side**2
    assert count <= 256, "bfloat16 has eight bits"
    x = by_pixels(torch.randperm(count).view(shape).float() - count // 2).bfloat16()
    pool = nn.MaxPool2d(side)
    assert MaxPoolByRows.fits(pool)
    for expected, found in zip(result_and_gradient(pool, x), result_and_gradient(MaxPoolByRows(pool), x), strict=True):
        assert torch.equal(expected, found)


def test_the_first_of_equal_entries_takes_the_gradient() -> None:
    x = by_pixels(torch.ones(1, 2, 4, 4).bfloat16()).requires_grad_(True)
    (gradient,) = torch.autograd.grad(MaxPoolByRows(nn.MaxPool2d(2))(x).sum(), x)
    expected = torch.zeros(4, 4, dtype=torch.bfloat16)
    expected[::2, ::2] = 1
    assert torch.equal(gradient, expected.expand(1, 2, 4, 4))


def test_a_gradient_that_is_differentiated_itself() -> None:
    x = by_pixels(torch.arange(16.0).view(1, 1, 4, 4)).bfloat16().requires_grad_(True)
    (gradient,) = torch.autograd.grad(MaxPoolByRows(nn.MaxPool2d(2))(x).square().sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.sum(), x)
    assert curvature.unique().tolist() == [0.0, 2.0]


@pytest.mark.parametrize("ceil_mode", [True, False])
def test_other_pictures_are_pooled_by_torch(ceil_mode: bool) -> None:
    pool = nn.MaxPool2d(2, ceil_mode=ceil_mode)
    for x in (torch.randn(2, 3, 7, 6), by_pixels(torch.randn(2, 3, 6, 7)), torch.randn(2, 3, 6, 6)):
        for one in (x, x.bfloat16()):
            assert torch.equal(pool(one), MaxPoolByRows(pool)(one))


def test_other_poolings_do_not_fit() -> None:
    others = [
        nn.MaxPool2d(2, 1), nn.MaxPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d((2, 3)), nn.MaxPool2d(4),
        nn.MaxPool2d(2, dilation=2), nn.MaxPool2d(2, return_indices=True), nn.AvgPool2d(2),
    ]  # fmt: skip
    assert not any(MaxPoolByRows.fits(layer) for layer in others)
    assert MaxPoolByRows.fits(nn.MaxPool2d((2, 2), stride=(2, 2)))
