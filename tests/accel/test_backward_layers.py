"""Layers passed faster: the same answers and gradients as torch's, to the rounding of their sums."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robcert.accel.layers.first_convolution import ReadPicture
from robcert.accel.layers.flatten import FlattenPixels
from robcert.accel.layers.norm_pooling import PoolNorms
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.pooling import NormPool2d

CONVOLUTIONS = st.builds(
    dict,
    kernel_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.just("valid")),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bias=st.booleans(),
)


def both_ways(layer: nn.Module, x: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A layer's results, the gradient of their sum with random weights, and a product with its curvature."""
    x = x.detach().requires_grad_(True)
    result = layer(x)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(result.dtype)
    (gradient,) = torch.autograd.grad((result * weights).sum(), x, retain_graph=True)
    (curved,) = torch.autograd.grad((result**2 * weights).sum(), x, create_graph=True)
    (product,) = torch.autograd.grad(curved, x, torch.ones_like(curved))
    return result.detach(), gradient, product


def by_pixels(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def assert_alike(one: nn.Module, other: nn.Module, x: Tensor) -> None:
    for expected, found in zip(both_ways(one, x), both_ways(other, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
        assert found.shape == expected.shape


@settings(max_examples=150, deadline=None)
@given(CONVOLUTIONS, st.integers(1, 3), st.tuples(st.integers(8, 12), st.integers(8, 12)), st.integers(0, 9))
def test_a_picture_is_read_alike_in_every_geometry(
    options: dict[str, object], channels: int, size: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    layer = nn.Conv2d(channels, 24, **options).double()  # type: ignore[arg-type]
    assert ReadPicture.fits(layer)
    assert_alike(layer, ReadPicture(layer, torch.float64), torch.randn(3, channels, *size, dtype=torch.float64))


def test_padding_by_name_is_understood() -> None:
    odd = nn.Conv2d(1, 8, 3, padding="same", dilation=2).double()
    assert_alike(odd, ReadPicture(odd, torch.float64), torch.randn(2, 1, 9, 9, dtype=torch.float64))
    even = nn.Conv2d(1, 8, 2, padding="same")
    assert not ReadPicture.fits(even), "it pads one side more than the other"


OPTIONS = [{}, {"padding": 1}, {"stride": 2, "padding": "valid"}, {"dilation": 2, "bias": False}]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_split_picture_is_read_to_sixteen_bits(options: dict[str, object]) -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 16, 3, **options)  # type: ignore[arg-type]
    for own in layer.parameters():
        own.data = own.data.bfloat16().float()  # their rounding is not the question here
    split, x = ReadPicture(layer, torch.bfloat16), torch.rand(6, 3, 11, 11, requires_grad=True)
    exact = layer(x)
    # One rounding of the result to bfloat16 (2^-9), and 2^-17 of what is summed.
    error = (split(x).float() - exact).abs()
    assert bool((error <= 2**-8 * exact.abs() + 2**-14).all())
    weights = torch.randn_like(exact).bfloat16()
    (one,) = torch.autograd.grad((exact * weights.float()).sum(), x)
    (two,) = torch.autograd.grad((split(x) * weights).sum(), x)
    assert two.dtype == torch.float32
    assert float((one - two).norm() / one.norm()) <= 2**-7


def test_other_convolutions_do_not_fit() -> None:
    mirrored = nn.Conv2d(1, 16, 3, padding_mode="reflect")
    for layer in (nn.Conv2d(8, 64, 3), nn.Conv2d(2, 64, 3, groups=2), mirrored, nn.Linear(3, 4)):
        assert not ReadPicture.fits(layer)
    assert not ReadPicture.fits(nn.Conv2d(3, 64, 7)), "147 planes of a picture are more than its 64 channels"


def test_flattened_by_pixels_the_linear_layer_follows() -> None:
    torch.manual_seed(0)
    for shape in itertools.product((1, 5), (1, 4), (3,)):
        linear = nn.Linear(shape[0] * shape[1] * shape[2], 6).double()
        plain = nn.Sequential(nn.Flatten(), linear)
        moved = nn.Sequential(FlattenPixels(), FlattenPixels.follow(linear, shape))
        assert_alike(plain, moved, by_pixels(torch.randn(3, *shape).double()))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 2, 3]), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_the_norms_of_both_sides(side: int, channels: int, high: int, wide: int, seed: int) -> None:
    torch.manual_seed(seed)
    pair = TwoSidedReLU(), NormPool2d(side)
    assert PoolNorms.fits(*pair)
    x = torch.randn(2, channels, high * side, wide * side, dtype=torch.float64)
    for shown in (by_pixels(x), x, by_pixels(torch.randn(2, channels, high * side + 1, wide * side).double())):
        assert_alike(nn.Sequential(*pair), PoolNorms(pair[1]), shown)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_windows_on_one_side_of_zero_keep_all_digits_of_their_gradient(dtype: torch.dtype) -> None:
    """The norm of the other side is nearly zero there, and the gradient by it nearly infinite."""
    pool = NormPool2d(2)
    x = by_pixels(torch.rand(2, 3, 4, 4, dtype=dtype) * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    x[0, 0, :2, :2] = 0
    x.requires_grad_(True)
    plain, mine = nn.Sequential(TwoSidedReLU(), pool)(x), PoolNorms(pool)(x)
    weights = torch.randn_like(plain)
    expected, found = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (plain, mine))
    torch.testing.assert_close(found, expected)
    assert bool((found[0, 0, :2, :2] == 0).all())


def test_other_pairs_are_no_norms() -> None:
    assert not PoolNorms.fits(TwoSidedReLU(), NormPool2d(3, 2)), "its windows overlap"
    assert not PoolNorms.fits(nn.ReLU(), NormPool2d(2))
    assert not PoolNorms.fits(TwoSidedReLU(), nn.MaxPool2d(2))
