"""Layers passed faster: the same answers and gradients as torch's, to the rounding of their sums."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robcert.engine.passes.convolution import Convolve
from robcert.engine.passes.flatten import FlattenPixels
from robcert.engine.passes.norms import PoolNorms
from robcert.engine.passes.picture import ReadPicture
from robcert.engine.passes.pooling import PoolPairs
from robcert.engine.passes.stacks import AllStacks
from robcert.engine.passes.winograd import Winograd
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.heads import LabelStacks
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


@settings(max_examples=100, deadline=None)
@given(CONVOLUTIONS, st.tuples(st.integers(8, 12), st.integers(8, 12)), st.integers(0, 9))
def test_a_convolution_goes_back_alike(options: dict[str, object], size: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.Conv2d(5, 7, **options).double()  # type: ignore[arg-type]
    if options["stride"] != (1, 1):
        assert not Convolve.fits(layer)
        options["stride"] = (1, 1)
        layer = nn.Conv2d(5, 7, **options).double()  # type: ignore[arg-type]
    pairs = zip(layer.padding, layer.kernel_size, layer.dilation, strict=False) if options["padding"] != "valid" else ()
    wide = any(int(p) > d * (k - 1) for p, k, d in pairs)
    assert Convolve.fits(layer) is not wide
    if not wide:
        assert_alike(layer, Convolve(layer), by_pixels(torch.randn(3, 5, *size, dtype=torch.float64)))


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.sampled_from([1, 2, 3, 4, 7, 8]), st.sampled_from([1, 2, 5, 6])),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    n=st.sampled_from([1, 32, 45]),
    bias=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_convolution_of_few_pixels_answers_alike(
    size: tuple[int, int], channels: tuple[int, int], n: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = nn.Conv2d(*channels, 3, padding=1, bias=bias).double()
    assert_alike(layer, Winograd(layer, size), by_pixels(torch.randn(n, channels[0], *size, dtype=torch.float64)))


def test_in_bfloat16_it_errs_by_three_more_roundings() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(256, 256, 3, padding=1).bfloat16().requires_grad_(False)
    assert Winograd.fits(layer, (4, 4))
    x = by_pixels(torch.randn(16, 256, 4, 4).bfloat16())
    exact = copy.deepcopy(layer).double()(x.double())
    direct, own = ((one(x).double() - exact).norm() / exact.norm() for one in (layer, Winograd(layer, (4, 4))))
    assert float(direct) < float(own) < 4 * float(direct)


def test_larger_pictures_and_other_convolutions_stay_direct() -> None:
    def layer(channels: int = 256, **options: Any) -> nn.Conv2d:
        return nn.Conv2d(channels, 256, **{"kernel_size": 3, "padding": 1, **options}).bfloat16()

    assert Winograd.fits(layer(), (8, 2))
    for size in ((10, 4), (4, 10), (7, 4), (4, 7)):
        assert not Winograd.fits(layer(), size)
    others = (
        layer(128), layer(padding=0), layer(kernel_size=1, padding=0), layer(stride=2), layer(groups=2),
        layer(dilation=2, padding=2), layer(padding_mode="circular"), layer().float(),
    )  # fmt: skip
    for other in others:
        assert not Winograd.fits(other, (4, 4))


def test_padding_by_name_is_understood() -> None:
    odd = nn.Conv2d(1, 8, 3, padding="same", dilation=2).double()
    assert_alike(odd, ReadPicture(odd, torch.float64), torch.randn(2, 1, 9, 9, dtype=torch.float64))
    inner = nn.Conv2d(8, 8, 3, padding="same").double()
    assert_alike(inner, Convolve(inner), by_pixels(torch.randn(2, 8, 9, 9, dtype=torch.float64)))
    even = nn.Conv2d(1, 8, 2, padding="same")
    assert not ReadPicture.fits(even), "it pads one side more than the other"
    assert not Convolve.fits(even)


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
    for layer in (nn.Conv2d(4, 4, 3, groups=2), mirrored, nn.Linear(3, 4)):
        assert not Convolve.fits(layer)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([2, 3]), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_windows_that_touch(side: int, channels: int, high: int, wide: int, positive: bool) -> None:
    """With entries that are all different, and with a whole number of windows, as a picture has them."""
    shape = (2, channels, high * side, wide * side)
    torch.manual_seed(high + wide)
    x = by_pixels(torch.randperm(2 * channels * high * wide * side**2).double().view(shape) - 40)
    pool = nn.MaxPool2d(side)
    assert PoolPairs.fits(pool)
    mine = PoolPairs(pool, positive)
    assert_alike(nn.Sequential(pool, nn.ReLU()), nn.Sequential(mine, nn.ReLU()), x)
    if not positive:
        assert_alike(pool, mine, x)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("side", [2, 3])
def test_the_bits_of_bfloat16_choose_alike(side: int, positive: bool) -> None:
    torch.manual_seed(3)
    x = by_pixels(torch.randn(4, 8, 6 * side, 5 * side)).bfloat16()
    distinct = nn.functional.max_pool2d(x.float(), side)
    one = nn.Sequential(nn.MaxPool2d(side), nn.ReLU())
    two = nn.Sequential(PoolPairs(nn.MaxPool2d(side), positive), nn.ReLU())
    (a, b, _), (c, d, _) = both_ways(one, x), both_ways(two, x)
    assert torch.equal(a, c)
    # Equal entries of a window are seldom but there, and the gradient may go to either of them.
    count = (x.float() == distinct.repeat_interleave(side, 2).repeat_interleave(side, 3)).float()
    alone = nn.functional.avg_pool2d(count, side, divisor_override=1) == 1
    alone = alone.repeat_interleave(side, 2).repeat_interleave(side, 3)
    assert float(alone.float().mean()) > 0.9
    assert torch.equal(b[alone], d[alone])
    assert torch.equal(*(nn.functional.avg_pool2d(g.float(), side, divisor_override=1) for g in (b, d)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_of_equal_entries_takes_the_gradient(dtype: torch.dtype) -> None:
    x = by_pixels(torch.ones(1, 2, 4, 4, dtype=dtype)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(PoolPairs(nn.MaxPool2d(2), True)(x).sum(), x)
    expected = torch.zeros(4, 4, dtype=dtype)
    expected[::2, ::2] = 1
    assert torch.equal(gradient, expected.expand(1, 2, 4, 4))


def test_an_infinite_gradient_of_bfloat16_stays_where_it_belongs() -> None:
    x = by_pixels(torch.arange(16.0).view(1, 1, 4, 4)).bfloat16().requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        PoolPairs(nn.MaxPool2d(2), True)(x), x, torch.full((1, 1, 2, 2), torch.inf).bfloat16()
    )
    assert gradient.isinf().sum() == 4
    assert int((gradient == 0).sum()) == 12


@pytest.mark.parametrize("ceil_mode", [True, False])
def test_pictures_that_windows_do_not_fill_are_pooled_as_ever(ceil_mode: bool) -> None:
    pool = nn.MaxPool2d(2, ceil_mode=ceil_mode)
    pictures = [torch.randn(2, 3, 7, 6), by_pixels(torch.randn(2, 3, 6, 7)), torch.randn(2, 3, 6, 6)]
    for x in pictures:
        assert_alike(pool, PoolPairs(pool, False), x.double())


def test_other_poolings_do_not_fit() -> None:
    others = [
        nn.MaxPool2d(2, 1), nn.MaxPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d((2, 3)), nn.MaxPool2d(4),
        nn.MaxPool2d(2, dilation=2), nn.MaxPool2d(2, return_indices=True), nn.AvgPool2d(2),
    ]  # fmt: skip
    assert [PoolPairs.fits(layer) for layer in others] == [False] * len(others)
    assert PoolPairs.fits(nn.MaxPool2d((2, 2), stride=(2, 2)))


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


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4), (6, 5, 4)])
@pytest.mark.parametrize(("activation", "widening"), [(TwoSidedReLU, 2), (nn.ReLU, 1)])
def test_all_classes_at_once(hidden: tuple[int, ...], activation: type[nn.Module], widening: int) -> None:
    torch.manual_seed(0)
    stacks = LabelStacks(7, 3, hidden, activation, widening).double()
    assert AllStacks.fits(stacks)
    assert_alike(stacks, AllStacks(stacks), torch.randn(4, 7, dtype=torch.float64))


def test_stacks_with_numbers_in_their_nonlinearities_stay_apart() -> None:
    assert not AllStacks.fits(LabelStacks(7, 3, (5,), lambda: nn.PReLU(), 1))
    assert not AllStacks.fits(nn.Linear(7, 3))
