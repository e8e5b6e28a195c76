"""Every layer of an L2NNN on random inputs and weights: nonexpansive in l2, 1,000 cases each in the slow set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robcert.nn.activations import ScaledSigmoid, TwoSided, TwoSidedReLU
from robcert.nn.bounds import copies, counted_copies, gram_bound
from robcert.nn.convolution import UndividedConv2d
from robcert.nn.heads import Heads
from robcert.nn.nonexpansive import constrain, constraints, fold
from robcert.nn.normalisation import LargestScaleNorm, SubtractMean
from robcert.nn.pooling import NormPool2d
from robcert.nn.recurrent import Recurrent
from robcert.nn.split import ConvexResidual, Reconverge, Residual, Split

SLACK = 1 + 1e-12
CASES = pytest.mark.parametrize("cases", [60, pytest.param(1000, marks=pytest.mark.slow)])


@dataclass
class Random:
    """Draws of one case."""

    generator: torch.Generator = field(default_factory=torch.Generator)

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choice(self, options: Any) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64)


def random(case: int) -> Random:
    draw = Random()
    draw.generator.manual_seed(case)
    return draw


def convolution(draw: Random) -> tuple[nn.Module, tuple[int, ...]]:
    """Every stride, dilation, padding mode and number of groups."""
    groups = draw.choice([1, 1, 2])
    mode = draw.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    layer = nn.Conv2d(
        2 * groups,
        groups * draw.integer(1, 4),
        (draw.integer(1, 4), draw.integer(1, 3)),
        stride=(draw.integer(1, 4), draw.integer(1, 4)),
        padding=(draw.integer(0, 4), draw.integer(0, 3)),
        dilation=(draw.integer(1, 2), draw.integer(1, 2)),
        groups=groups,
        padding_mode=mode,
        bias=False,
    )
    return layer, (2 * groups, 7, 6)


def linear(draw: Random) -> tuple[nn.Module, tuple[int, ...]]:
    inputs = draw.integer(1, 9)
    return nn.Linear(inputs, draw.integer(1, 9), bias=False), (inputs,)


def ratio(draw: Random) -> tuple[int, ...]:
    """One t a layer, a channel or an entry."""
    return draw.choice([(), (3, 1, 1), (3, 4, 4)])


def branch(draw: Random) -> nn.Module:
    """From 3 to 4 (or 6) channels: x is added to the first three of them."""
    return nn.Sequential(nn.Conv2d(3, draw.choice([2, 3]), 3, padding=1, bias=False), TwoSidedReLU())


class Pair(nn.Module):
    """A split as one tensor."""

    def __init__(self, split: nn.Module) -> None:
        super().__init__()
        self.split = split

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.split(x), dim=1)


class Joined(nn.Module):
    """A reconvergence of the first three channels with the others."""

    def __init__(self, merge: nn.Module) -> None:
        super().__init__()
        self.merge = merge

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(x[:, :3], x[:, 3:])


IMAGE = (3, 4, 4)
Layer = tuple[nn.Module, tuple[int, ...]]
LAYERS: dict[str, Callable[[Random], Layer]] = {
    "linear": linear,
    "convolution": convolution,
    "two-sided relu": lambda draw: (TwoSidedReLU(), IMAGE),
    "relu, two-sided": lambda draw: (TwoSided(nn.ReLU()), IMAGE),
    "tanh, two-sided": lambda draw: (TwoSided(nn.Tanh()), IMAGE),
    "scaled sigmoid": lambda draw: (ScaledSigmoid(*IMAGE), IMAGE),
    "scaled sigmoid, two-sided": lambda draw: (TwoSided(ScaledSigmoid(*IMAGE)), IMAGE),
    "norm-pooling": lambda draw: (NormPool2d(draw.integer(1, 4), draw.integer(1, 4)), (2, 7, 6)),
    "split": lambda draw: (Pair(Split(ratio(draw))), IMAGE),
    "reconvergence": lambda draw: (Joined(Reconverge(ratio(draw))), (6, 4, 4)),
    "reconvergence of some channels": lambda draw: (Joined(Reconverge(ratio(draw))), (8, 4, 4)),
    "residual": lambda draw: (Residual(branch(draw), ratio(draw)), IMAGE),
    "convex residual": lambda draw: (ConvexResidual(branch(draw)), IMAGE),
    "mean subtraction": lambda draw: (SubtractMean(draw.choice([None, (1,), (2, 3)])), IMAGE),
    "batch mean and largest scale": lambda draw: (LargestScaleNorm(3), IMAGE),
    "recurrent, all outputs": lambda draw: (Recurrent(3, 2, reading="all", shape=draw.choice([(), (4,)])), (5, 3)),
}
ONE_BY_ONE: dict[str, Callable[[Random], Layer]] = {
    "heads": lambda draw: (Heads(6, 4, bias=False), (6,)),
    "recurrent, each output": lambda draw: (Recurrent(3, 2, reading="each"), (5, 3)),
}
"""Layers each of whose outputs is nonexpansive, but not all of them together; a recurrent one: at each time step."""


def made(kind: Callable[[Random], Layer], draw: Random) -> Layer:
    """The layer with random weights of random size, as it is evaluated: constrained and folded."""
    layer, shape = kind(draw)
    layer = constrain(layer.double(), input_shape=shape)
    scale = draw.choice([1e-6, 0.1, 1.0, 30.0, 1e4])
    for parameter in layer.parameters():
        # A parameter of a range may be anywhere in it, and at its ends.
        parameter.data = (10.0 if scale == 1e4 else 1.0 if scale == 1e-6 else scale) * draw.normal(*parameter.shape)
    for _, weight in constraints(layer):
        weight.data = scale * draw.normal(*weight.shape)
    for buffer in layer.buffers():
        buffer.copy_(draw.uniform(*buffer.shape) * scale)
    return fold(layer).eval(), shape


def pair(draw: Random, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Two points near or far apart, with zeros now and then."""
    a = draw.normal(1, *shape)
    b = a + draw.choice([1e-3, 1.0, 100.0]) * draw.normal(1, *shape)
    return (torch.relu(a), torch.relu(b)) if draw.integer(0, 1) else (a, b)


def moved(layer: nn.Module, a: Tensor, b: Tensor) -> tuple[Tensor, float]:
    """The difference of the outputs, and how far rounding may have moved it: outputs may be larger than inputs."""
    with torch.no_grad():
        one, other = layer(a), layer(b)
    return one - other, 1e-14 * float(one.norm() + other.norm() + a.norm() + b.norm())


@CASES
@pytest.mark.parametrize("name", LAYERS)
def test_nonexpansive(name: str, cases: int) -> None:
    for case in range(cases):
        draw = random(case)
        layer, shape = made(LAYERS[name], draw)
        a, b = pair(draw, shape)
        difference, rounding = moved(layer, a, b)
        assert float(difference.norm()) <= float((a - b).norm()) * SLACK + rounding, case


@CASES
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_nonexpansive_one_by_one(name: str, cases: int) -> None:
    for case in range(cases):
        draw = random(case)
        layer, shape = made(ONE_BY_ONE[name], draw)
        a, b = pair(draw, shape)
        difference, rounding = moved(layer, a, b)
        each = difference.abs() if difference.ndim == 2 else difference.norm(dim=2)
        assert float(each.amax()) <= float((a - b).norm()) * SLACK + rounding, case


def test_all_outputs_of_a_recurrent_layer_together_need_the_split() -> None:
    """A layer that remembers its input for one step: the change of one input moves two outputs as far."""
    layer = Recurrent(1, 2, reading="each").double()
    with torch.no_grad():
        layer.linear.weight.zero_()
        layer.linear.bias.zero_()
        layer.linear.weight[0, 0] = 1  # what comes in
        layer.linear.weight[1, 1] = 1  # and what was there
    layer = fold(constrain(layer))
    x = torch.zeros(1, 4, 1, dtype=torch.float64)
    z = x.clone()
    z[0, 0] = 1
    difference = (layer(z) - layer(x)).detach()
    assert float(difference.norm()) > 1.1, "once when it comes, once in the next step"
    assert float(difference.norm(dim=2).amax()) <= 1


def dense(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear layer without bias, column by column."""
    identity = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        return layer(identity).flatten(1).T


@CASES
@pytest.mark.parametrize("kind", [linear, convolution])
def test_spectral_norms(kind: Callable[[Random], Layer], cases: int) -> None:
    """By the exact matrix: W' is nonexpansive, and b(W) times the counted copies is above the norm squared."""
    for case in range(cases):
        draw = random(case)
        layer, shape = made(kind, draw)
        assert float(torch.linalg.matrix_norm(dense(layer, shape), 2)) <= SLACK, case
        weight = draw.normal(*layer.weight.shape)
        layer.weight = nn.Parameter(weight)
        blocks = weight.chunk(getattr(layer, "groups", 1))
        bound = max(float(gram_bound(block)) for block in blocks)
        if isinstance(layer, nn.Conv2d):
            bound *= counted(layer, shape)
        assert float(torch.linalg.matrix_norm(dense(layer, shape), 2)) ** 2 <= bound * SLACK, case


def counted(layer: nn.Conv2d, shape: tuple[int, ...]) -> int:
    padding = [(int(p), int(p)) for p in layer.padding]
    return counted_copies(shape[1:], layer.kernel_size, layer.stride, padding, layer.dilation, layer.padding_mode)


@CASES
def test_copies_are_what_ones_read(cases: int) -> None:
    """A convolution with the identity as its flattened weight copies; its adjoint counts the copies."""
    for case in range(cases):
        layer, shape = convolution(random(case))
        assert isinstance(layer, nn.Conv2d)
        layer = nn.Conv2d(
            1,
            1,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            bias=False,
            padding_mode=layer.padding_mode,
        ).double()
        nn.init.ones_(layer.weight)
        x = torch.zeros(1, 1, *shape[1:], dtype=torch.float64, requires_grad=True)
        (reads,) = torch.autograd.grad(layer(x).sum(), x)
        assert counted(layer, shape) == int(reads.amax()), case
        if layer.padding_mode == "zeros":
            assert int(reads.amax()) <= copies(layer.kernel_size, layer.stride, layer.dilation), case


def test_where_the_papers_factor_is_too_small() -> None:
    """ceil(K / S) for dilation and for padding that copies: the norm of the divided layer is above 1."""
    dilated = nn.Conv2d(1, 1, (3, 1), stride=(2, 1), dilation=(2, 1), bias=False)
    wrapped = nn.Conv2d(1, 1, (2, 1), stride=(2, 1), padding=(1, 0), padding_mode="replicate", bias=False)
    for layer in (dilated, wrapped):
        layer = layer.double()
        nn.init.ones_(layer.weight)
        # One entry in every row of the matrix of copies: the weight that reads the same entry each time.
        weight = layer.weight.detach() / gram_bound(layer.weight.detach()).sqrt()
        paper = math.prod(-(-k // s) for k, s in zip(layer.kernel_size, layer.stride, strict=True))
        layer.weight = nn.Parameter(weight / math.sqrt(paper))
        exact = float(torch.linalg.matrix_norm(dense(layer, (1, 33, 1)), 2))
        fixed = constrain(layer, input_shape=(1, 33, 1))
        assert float(torch.linalg.matrix_norm(dense(fixed, (1, 33, 1)), 2)) <= SLACK
        assert exact > 1.05


def test_an_undivided_convolution_may_expand() -> None:
    layer = UndividedConv2d(1, 1, 3, padding=1, bias=False).double()
    nn.init.ones_(layer.weight)
    layer = fold(constrain(layer))
    assert float(gram_bound(layer.weight.detach())) == pytest.approx(1)
    assert 2 < float(torch.linalg.matrix_norm(dense(layer, (1, 7, 7)), 2)) <= 3


@CASES
@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("name", ["two-sided relu", "relu, two-sided", "tanh, two-sided", "scaled sigmoid, two-sided"])
def test_two_sided_nonlinearities_in_every_norm(name: str, p: float, cases: int) -> None:
    for case in range(cases):
        draw = random(case)
        layer, shape = made(LAYERS[name], draw)
        a, b = pair(draw, shape)
        difference, rounding = moved(layer, a, b)
        before, after = float((a - b).flatten().norm(p)), float(difference.flatten().norm(p))
        assert after <= before * SLACK + 50 * rounding, case
        if p == 2:
            assert after >= before / math.sqrt(2) / SLACK - rounding, case


def test_the_scaled_sigmoid_has_slope_one_at_zero_for_every_t() -> None:
    layer = constrain(ScaledSigmoid(5).double())
    with torch.no_grad():
        layer.parametrizations.t.original.copy_(torch.tensor([-3.0, -0.1, 0.0, 1.0, 4.0]))
    x = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).sum(), x)
    assert torch.allclose(slope, torch.ones_like(slope), rtol=1e-6)
    assert float(slope.max()) <= 1
    assert float(layer.t.detach().amin()) > 0
    with pytest.raises(ValueError, match="t > 0 was expected"):
        ScaledSigmoid(5, t=0.0)


def test_parameters_stay_in_their_range_while_they_are_trained() -> None:
    net = constrain(nn.Sequential(ScaledSigmoid(3, 4, 4), Residual(branch(random(0)), (3, 1, 1))))
    assert torch.allclose(net[0].t, torch.full((3, 4, 4), 4.0))
    assert torch.allclose(net[1].t, torch.full((3, 1, 1), 0.5**0.5))
    optimiser = torch.optim.SGD(net.parameters(), lr=50.0)
    for step in range(3):
        optimiser.zero_grad()
        net(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())
        optimiser.step()
    fold(net)
    assert not any(parametrize.is_parametrized(layer) for layer in net.modules())
    assert float(net[0].t.min()) > 0
    assert bool(((net[1].t >= 0) & (net[1].t <= 1)).all())
    assert set(dict(net.named_parameters())) == {"0.t", "1.t", "1.branch.0.weight"}


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_ends_of_the_split(t: float) -> None:
    """All distance on one way; gradients are finite there too."""
    layer = Residual(nn.Conv2d(2, 2, 1), t=t).double()
    x = torch.rand(1, 2, 3, 3, dtype=torch.float64)
    expected = x if t else layer.branch(x)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    layer(x).sum().backward()
    assert layer.t.grad is not None
    assert bool(torch.isfinite(layer.t.grad))
    with pytest.raises(ValueError, match="a number from 0 to 1"):
        Split(t=1.5)


def test_reconvergence_leaves_other_channels_alone_where_the_convex_form_shrinks_them() -> None:
    """The advantage that appendix A.3 claims over eq. 11."""
    wide = nn.Conv2d(2, 5, 1, bias=False).double()
    x = torch.rand(1, 2, 3, 3, dtype=torch.float64)
    inner = x * (1 - 0.6**2) ** 0.5
    assert torch.allclose(Residual(wide, t=0.6)(x)[:, 2:], wide(inner)[:, 2:], atol=1e-6)
    assert torch.allclose(ConvexResidual(wide, alpha=0.6)(x)[:, 2:], 0.4 * wide(x)[:, 2:], atol=1e-12)
    for block in (Residual, ConvexResidual):
        with pytest.raises(ValueError, match="cannot be added"):
            block(nn.Conv2d(2, 1, 1).double())(x)


def test_the_convex_form_is_nonexpansive_in_every_norm() -> None:
    for case in range(50):
        draw = random(case)
        layer, shape = made(lambda draw: (ConvexResidual(TwoSidedReLU()), IMAGE), draw)
        a, b = pair(draw, shape)
        difference, rounding = moved(layer, a, b)
        for p in (1.0, 2.0, math.inf):
            assert float(difference.flatten().norm(p)) <= float((a - b).flatten().norm(p)) * SLACK + 50 * rounding


def test_normalisation_against_its_formula() -> None:
    layer = LargestScaleNorm(3).double()
    with torch.no_grad():
        layer.gamma.copy_(torch.tensor([1.0, -4.0, 2.0]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    y = layer.train()(x)
    factor = layer.gamma / (x.var((0, 2, 3), correction=0) + 1e-5).sqrt()
    factor = factor / factor.abs().amax()
    expected = factor.view(-1, 1, 1) * (x - x.mean((0, 2, 3), keepdim=True)) + layer.bias.view(-1, 1, 1)
    assert torch.allclose(y, expected, rtol=1e-10)
    assert torch.allclose(layer.mean, 0.1 * x.mean((0, 2, 3)))
    assert float(factor.abs().amax()) == 1
    assert torch.allclose(layer.eval()(x[:1]), layer(x)[:1], rtol=1e-12), "in evaluation images are apart"
    with torch.no_grad():
        layer.gamma.zero_()
    assert torch.allclose(layer(x), layer.bias.view(-1, 1, 1).expand_as(x))
    with pytest.raises(ValueError, match="axes from 1 on"):
        SubtractMean((0, 1))
