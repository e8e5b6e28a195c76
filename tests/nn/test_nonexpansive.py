"""L2NNN layers: nonexpansive for all weights, and nothing lost between training and evaluation."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robcert.nn import architectures
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.bounds import copies, gram_bound, gram_penalty
from robcert.nn.heads import Heads
from robcert.nn.nonexpansive import (
    Divide,
    Nonexpansive,
    NonexpansiveEach,
    constrain,
    constraints,
    fold,
    set_strict,
    weight_penalty,
)
from robcert.nn.pooling import NormPool2d

SLACK = 1 + 1e-12
SEEDS = st.integers(0, 2**31)
SCALES = st.sampled_from([1e-6, 0.1, 1.0, 30.0, 1e4])
DIVIDE: st.SearchStrategy[Divide] = st.sampled_from(["whole", "each"])


def random(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def pair(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Two points, near or far apart, one of them now and then with zeros."""
    a = random(seed, 1, *shape)
    step = [1e-4, 1.0, 100.0][seed % 3]
    b = a + step * random(seed + 1, 1, *shape)
    return (torch.relu(a), torch.relu(b)) if seed % 2 else (a, b)


def assert_nonexpansive(layer: nn.Module, a: Tensor, b: Tensor) -> None:
    with torch.no_grad():
        # The difference of the outputs carries the rounding of outputs that may be far larger than it.
        rounding = 1e-14 * float(layer(a).norm() + layer(b).norm())
        assert float((layer(a) - layer(b)).norm()) <= float((a - b).norm()) * SLACK + rounding


@settings(max_examples=150, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=SEEDS, scale=SCALES)
def test_gram_bound_is_above_the_spectral_norm(rows: int, columns: int, seed: int, scale: float) -> None:
    weight = random(seed, rows, columns, scale=scale)
    exact = float(torch.linalg.matrix_norm(weight, 2)) ** 2
    assert float(gram_bound(weight)) * SLACK >= exact
    assert float(gram_bound(weight)) == pytest.approx(float(gram_bound(weight.T)), rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=SEEDS, sparse=st.booleans())
def test_gram_bound_is_the_smaller_of_both_sides(rows: int, columns: int, seed: int, sparse: bool) -> None:
    """Also where the larger Gram matrix decides, as with sparse weights it often does."""
    weight = random(seed, rows, columns)
    if sparse:
        weight = weight * (random(seed + 1, rows, columns) > 1)
    both = [(m @ m.T).abs().sum(1).amax() for m in (weight, weight.T)]
    assert float(gram_bound(weight)) == pytest.approx(float(torch.minimum(*both)), rel=1e-12)


def test_gram_bound_is_exact_for_orthogonal_weights_and_single_rows() -> None:
    weight = torch.linalg.qr(random(0, 8, 5)).Q
    assert float(gram_bound(weight)) == pytest.approx(1, abs=1e-12)
    row = random(1, 1, 7)
    assert float(gram_bound(row)) == pytest.approx(float(row.square().sum()), rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(1, 10), columns=st.integers(1, 10), seed=SEEDS, size=st.floats(0.5, 1.5))
def test_penalty_is_zero_if_and_only_if_the_bound_holds(rows: int, columns: int, seed: int, size: float) -> None:
    weight = random(seed, rows, columns)
    weight = weight * size / gram_bound(weight).sqrt()
    assert (float(gram_penalty(weight)) <= 1e-12) == (float(gram_bound(weight)) <= 1 + 1e-12)


@settings(max_examples=100, deadline=None)
@given(inputs=st.integers(1, 12), outputs=st.integers(1, 12), seed=SEEDS, scale=SCALES, divide=DIVIDE)
def test_linear(inputs: int, outputs: int, seed: int, scale: float, divide: Divide) -> None:
    layer = nn.Linear(inputs, outputs).double()
    layer.weight.data = random(seed, outputs, inputs, scale=scale)
    assert_nonexpansive(constrain(layer, divide=divide), *pair(seed, inputs))
    assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) <= SLACK


def dense(layer: nn.Conv2d, shape: tuple[int, int, int]) -> Tensor:
    """The matrix of a convolution, column by column."""
    identity = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        return layer(identity).flatten(1).T


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.integers(0, 3),
    filters=st.integers(1, 5),
    seed=SEEDS,
    scale=SCALES,
    divide=DIVIDE,
)
def test_convolution(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    filters: int,
    seed: int,
    scale: float,
    divide: Divide,
) -> None:
    layer = nn.Conv2d(2, filters, kernel, stride=stride, padding=padding).double()
    # Without bias: next to it, the rounding of a difference of outputs would hide small weights.
    layer.bias = None
    layer.weight.data = random(seed, *layer.weight.shape, scale=scale)
    exact = float(torch.linalg.matrix_norm(dense(layer, (2, 6, 5)), 2)) ** 2
    assert float(gram_bound(layer.weight.detach())) * copies(kernel, stride) * SLACK >= exact
    constrain(layer, divide=divide)
    assert float(torch.linalg.matrix_norm(dense(layer, (2, 6, 5)), 2)) <= SLACK
    assert_nonexpansive(layer, *pair(seed, 2, 6, 5))


def test_a_padding_that_copies_needs_the_size_of_the_image() -> None:
    with pytest.raises(ValueError, match="Give constrain the input_shape"):
        constrain(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"))


@settings(max_examples=60, deadline=None)
@given(kernel=st.integers(1, 4), stride=st.integers(1, 4), seed=SEEDS)
def test_norm_pooling(kernel: int, stride: int, seed: int) -> None:
    layer = NormPool2d(kernel, stride)
    a, b = pair(seed, 2, 7, 6)
    assert_nonexpansive(layer, a, b)
    windows = torch.nn.functional.unfold(a, kernel, stride=stride).view(1, 2, kernel * kernel, -1)
    exact = windows.norm(dim=2) / math.sqrt(copies((kernel, kernel), (stride, stride)))
    assert torch.allclose(layer(a).flatten(2), exact, rtol=1e-12, atol=2e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norm_pooling_has_derivatives_at_zero(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 1, 4, 4, dtype=dtype, requires_grad=True)
    (first,) = torch.autograd.grad(NormPool2d(2)(x).sum(), x, create_graph=True)
    assert torch.equal(first, torch.zeros_like(first))
    (second,) = torch.autograd.grad(first.sum(), x)
    assert bool(torch.isfinite(second).all())
    tiny = torch.full_like(x, 1e-30).requires_grad_(True)
    (gradient,) = torch.autograd.grad(NormPool2d(2)(tiny).sum(), tiny)
    assert float(gradient.norm()) <= 1.0


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, p=st.sampled_from([1.0, 2.0, math.inf]))
def test_two_sided_relu(seed: int, p: float) -> None:
    a, b = pair(seed, 3, 4)
    before = float((a - b).flatten().norm(p))
    after = float((TwoSidedReLU()(a) - TwoSidedReLU()(b)).flatten().norm(p))
    assert after <= before * SLACK
    if p == 2:
        assert after >= before / math.sqrt(2) / SLACK
    assert TwoSidedReLU()(a).shape == (1, 6, 4)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, scale=SCALES)
def test_heads_have_rows_of_unit_norm(seed: int, scale: float) -> None:
    layer = Heads(6, 4).double()
    layer.weight.data = random(seed, 4, 6, scale=scale)
    constrain(layer)
    assert torch.allclose(layer.weight.norm(dim=1), torch.ones(4, dtype=torch.float64), rtol=1e-12)
    (parametrisation, original), *_ = constraints(layer)
    norms = original.square().sum(1)
    assert (float(parametrisation.penalty(original).detach()) == 0) == bool((norms <= 1).all())


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    scale=SCALES,
    channels=st.lists(st.integers(1, 4), max_size=2),
    hidden=st.lists(st.integers(1, 6), max_size=2),
    stride=st.integers(1, 2),
    divide=DIVIDE,
)
def test_whole_networks(
    seed: int, scale: float, channels: list[int], hidden: list[int], stride: int, divide: Divide
) -> None:
    options = {"channels": channels, "hidden": hidden, "kernel": 2 + stride, "stride": stride}
    net = architectures.get("l2nnn")((2, 16, 16), 5, **options).double()
    constrain(net, divide=divide)
    for index, (_, weight) in enumerate(constraints(net)):
        weight.data = random(seed + index, *weight.shape, scale=scale)
    fold(net)
    a, b = pair(seed, 2, 16, 16)
    with torch.no_grad():
        change = (net(a) - net(b)).abs().amax()
        assert float(change) <= float((a - b).norm()) * SLACK + 1e-13


def test_new_networks_are_nonexpansive_without_training() -> None:
    net = architectures.get("l2nnn")().double()
    for seed in range(20):
        a, b = pair(seed, 1, 8, 8)
        assert float((net(a) - net(b)).detach().abs().amax()) <= float((a - b).norm()) * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=SEEDS)
def test_dividing_each_row_shrinks_none_more_than_dividing_all(rows: int, columns: int, seed: int) -> None:
    """On the smaller side: the rows of a wide weight, the columns of a tall one."""
    weight = random(seed, rows, columns)
    wide = weight if rows <= columns else weight.T
    r = (wide @ wide.T).abs().sum(1).amax()
    each = NonexpansiveEach()(weight)
    each = each if rows <= columns else each.T
    assert bool((each.norm(dim=1) * SLACK >= (wide / r.sqrt()).norm(dim=1)).all())


def test_dividing_each_row_keeps_orthogonal_weights() -> None:
    weight = torch.linalg.qr(random(0, 8, 5)).Q
    for one in (weight, weight.T):
        assert torch.allclose(NonexpansiveEach()(one), one, atol=1e-12)


def test_folding_keeps_the_function_and_leaves_plain_layers() -> None:
    net = architectures.get("l2nnn")((1, 8, 8), 10, channels=[4, 4], hidden=[16])
    x = torch.rand(5, 1, 8, 8)
    plain = net(x)
    names = set(net.state_dict())
    constrained = constrain(copy.deepcopy(net))
    assert torch.allclose(constrained(x), plain, atol=1e-5), "a network that was folded is its own W'"
    for _, weight in constraints(constrained):
        weight.data *= torch.rand_like(weight) + 0.5
    before = constrained(x)
    folded = fold(constrained)
    assert torch.equal(folded(x), before)
    assert set(folded.state_dict()) == names
    assert constrain(constrain(net)) is net, "a second constraint on the same layer changes nothing"
    assert len(list(constraints(net))) == 4


def test_the_switch_between_penalty_and_strict_weights() -> None:
    net = constrain(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Heads(4, 2)), strict=False)
    for _, weight in constraints(net):
        weight.data = 3 * torch.ones_like(weight)
    assert float(net[0].weight[0, 0].detach()) == 3
    penalty = weight_penalty(net)
    penalty.backward()
    assert float(penalty.detach()) > 0
    assert all(weight.grad is not None and bool((weight.grad != 0).any()) for _, weight in constraints(net))
    set_strict(net, True)
    assert float(torch.linalg.matrix_norm(net[0].weight, 2).detach()) <= 1 + 1e-6
    assert float(weight_penalty(nn.ReLU())) == 0


@pytest.mark.parametrize("kind", [Nonexpansive, NonexpansiveEach])
def test_a_weight_of_zeros_stays_finite(kind: type[Nonexpansive]) -> None:
    weight = torch.zeros(3, 4, requires_grad=True)
    out = kind()(weight)
    out.sum().backward()
    assert torch.equal(out.detach(), torch.zeros(3, 4))
    assert weight.grad is not None
    assert not bool(weight.grad.isnan().any())
