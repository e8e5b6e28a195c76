"""Every rule is sound and, where a pair of inputs attains its constant, no larger than it must be."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.bounds.lipschitz import network_bound
from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.bounds.lipschitz.rules import rules
from robcert.bounds.lipschitz.rules.activations import SLOPES
from robcert.bounds.lipschitz.values import Bounds, Value
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.pooling import NormPool2d
from robcert.types import BOUND_NORMS, BoundNorm

from .ascent import attained, ratios, search
from .random_networks import Do

TIGHT = 1e-5
"""A rule whose constant is smaller than it must be by this much is caught."""

ALL: tuple[BoundNorm, ...] = BOUND_NORMS


def spike(*shape: int, at: tuple[int, ...] | None = None, height: float = 1.0) -> Tensor:
    x = torch.zeros(1, *shape, dtype=torch.float64)
    x[(0, *(at or tuple(s // 2 for s in shape)))] = height
    return x


def flat(value: float, *shape: int) -> Tensor:
    return torch.full((1, *shape), value, dtype=torch.float64)


def f32(value: float) -> float:
    return float(torch.tensor(value))


R2 = math.sqrt(2)
OVERLAP = nn.MaxPool2d(3, 1, padding=1)
LINEAR: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv": (nn.Conv2d(2, 3, 3, padding=1), (2, 4, 4)),
    "conv, stride, dilation, groups": (nn.Conv2d(2, 4, 2, 2, 1, 2, groups=2), (2, 5, 5)),
    "conv, same": (nn.Conv2d(1, 2, 2, padding="same"), (1, 4, 4)),
    "conv, circular": (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 4, 4)),
    "conv, reflect": (nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), (1, 4, 4)),
    "conv, replicate": (nn.Conv1d(1, 2, 3, padding=2, padding_mode="replicate"), (1, 4)),
    "pad, then conv": (Do(lambda x, f: f(functional.pad(x, (0, 1, 2, 0))), nn.Conv2d(1, 2, 3, padding=1)), (1, 3, 3)),
    "conv transpose": (nn.ConvTranspose2d(2, 1, 3, 2, 1, output_padding=1), (2, 3, 3)),
    "linear": (nn.Linear(5, 4), (5,)),
    "linear on rows": (nn.Linear(3, 2), (2, 3)),
    "matmul": (Do(lambda x: x @ torch.arange(6.0).view(3, 2).to(x) + 1), (2, 3)),
    "matmul from the left": (Do(lambda x: torch.arange(6.0).view(2, 3).to(x) @ x), (3, 2)),
    "addmm": (Do(lambda x: torch.addmm(torch.ones(2).to(x), x, torch.arange(6.0).view(3, 2).to(x))), (3,)),
    "avg pool": (nn.AvgPool2d(2, 1), (1, 4, 4)),
    "avg pool without pad": (nn.AvgPool2d(2, 1, 1, count_include_pad=False), (1, 3, 3)),
    "avg pool, ceil": (nn.AvgPool1d(3, 2, 1, ceil_mode=True), (2, 6)),
    "adaptive avg pool": (nn.AdaptiveAvgPool2d((2, 3)), (1, 5, 4)),
    "mean": (Do(lambda x: x.mean((2, 3))), (2, 3, 3)),
    "sum": (Do(lambda x: x.sum(1)), (2, 3, 3)),
    "mean subtraction": (Do(lambda x: x - x.mean(1, keepdim=True)), (4,)),
    "mean subtraction, channels": (Do(lambda x: x - x.mean((1, 2), keepdim=True)), (3, 2)),
    "scale": (Do(lambda x: -0.37 * x / 0.6 + 1), (3,)),
    "weights": (Do(lambda x: 2 - x * torch.tensor([1.0, -3.0, 2.0])), (3,)),
    "weights that copy": (Do(lambda x: x * torch.tensor([[1.0], [-3.0]])), (1, 3)),
    "division": (Do(lambda x: x / torch.tensor([1.0, -0.3, 2.0])), (3,)),
    "reflect pad": (Do(lambda x: functional.pad(x, (2, 2), mode="reflect")), (1, 3)),
    "index": (Do(lambda x: x[:, [0, 1, 1, 1]]), (3,)),
    "repeat": (Do(lambda x: x.repeat(1, 3)), (2,)),
    "expand": (Do(lambda x: x.expand(-1, 3, -1)), (1, 2)),
    "unfold": (nn.Unfold(2), (1, 3, 3)),
    "nearest": (nn.Upsample(scale_factor=2), (1, 2, 2)),
    "permutation": (Do(lambda x: x.flip(1).transpose(1, 2).reshape(-1, 4, 1).squeeze(2)), (2, 2)),
    "cat": (Do(lambda x: torch.cat([x, -x], 1)), (3,)),
    "cat of slices": (Do(lambda x: torch.cat([x[:, 2:], x[:, :2]], 1)), (4,)),
    "cat of overlapping slices": (Do(lambda x: torch.cat([x[:, 1:], x[:, :3], x[:, 1:2]], 1)), (4,)),
    "stack": (Do(lambda x: torch.stack([x, x, x]).permute(1, 0, 2)), (2,)),
    "sum of halves": (Do(lambda x: x[:, :2] + x[:, 2:]), (4,)),
    "x + x": (Do(lambda x: x + x), (3,)),
    "residual sum": (Do(lambda x, f: x + f(x), nn.Linear(4, 4)), (4,)),
    "scaled residual sum": (Do(lambda x: torch.sub(x, x.flip(1), alpha=0.25)), (4,)),
    "orthogonal": (nn.Sequential(*(nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)) for _ in range(3))), (4,)),
    "where": (Do(lambda x: torch.where(torch.arange(3) > 1, x, x * 0.5)), (3,)),
    "masked fill": (Do(lambda x: x.masked_fill(torch.arange(3) > 1, 2.0)), (3,)),
    "broadcast sum": (Do(lambda x: x + x.mean(1, keepdim=True)), (3,)),
    "batch norm": (nn.BatchNorm2d(2), (2, 2, 2)),
    "dropout": (nn.Dropout(), (3,)),
    "conv, 3-d": (nn.Conv3d(1, 2, 2), (1, 2, 3, 2)),
    "conv transpose, 1-d": (nn.ConvTranspose1d(1, 2, 3, 2, 1), (1, 3)),
    "conv transpose, 3-d": (nn.ConvTranspose3d(1, 1, 2), (1, 2, 2, 2)),
    "avg pool, 3-d": (nn.AvgPool3d(2, 1), (1, 2, 3, 2)),
    "adaptive avg pool, 1-d": (nn.AdaptiveAvgPool1d(2), (1, 3)),
    "adaptive avg pool, 3-d": (nn.AdaptiveAvgPool3d((1, 2, 2)), (1, 2, 3, 2)),
    "mm": (Do(lambda x: torch.mm(x, torch.arange(6.0).view(3, 2).to(x))), (3,)),
    "bmm": (Do(lambda x: torch.bmm(x, torch.arange(6.0).view(1, 3, 2).to(x).repeat(x.shape[0], 1, 1))), (2, 3)),
    "pixel shuffle": (nn.PixelShuffle(2), (4, 1, 1)),
    "pixel unshuffle": (nn.PixelUnshuffle(2), (1, 2, 2)),
    "channel shuffle": (nn.ChannelShuffle(2), (4, 1, 1)),
    "axes": (Do(lambda x: x.mT.movedim(1, 2).rot90(1, (1, 2)).adjoint().unsqueeze(1).mH.contiguous().clone()), (2, 3)),
    "shapes": (Do(lambda x: x.ravel().unflatten(0, (-1, 4)).roll(1, 1).type_as(x).to(torch.float64)), (4,)),
    "selects": (Do(lambda x: torch.stack([x.select(1, 1), x.narrow(1, 0, 1).squeeze(1)], 1)), (2, 2)),
    "narrow": (Do(lambda x: x.narrow(1, 0, 2)), (3,)),
    "select": (Do(lambda x: x.select(1, 1)), (2, 2)),
    "split": (Do(lambda x: x.split(2, 1)[1]), (4,)),
    "pieces": (Do(lambda x: torch.cat([*x.chunk(2, 1), *x.tensor_split(2, 1), x.unbind(1)[0][:, None]], 1)), (2, 2)),
    "gather": (Do(lambda x: x.gather(1, torch.tensor([[0, 0, 2]]).expand(x.shape[0], -1))), (3,)),
    "index select": (Do(lambda x: x.index_select(1, torch.tensor([0, 2, 2]))), (3,)),
    "tile": (Do(lambda x: x.tile(1, 3)), (2,)),
    "interleave": (Do(lambda x: x.repeat_interleave(3, 1)), (2,)),
    "expand as": (Do(lambda x: x[:, :1].expand_as(x)), (3,)),
    "windows": (Do(lambda x: x.unfold(1, 2, 1)), (4,)),
    "triangles": (Do(lambda x: torch.cat([x.tril(), x.triu(), x.tril(), x.diagonal(dim1=1, dim2=2)[:, :, None]], 2)),
                  (2, 2)),
    "nearest, 1-d": (nn.Upsample(scale_factor=2), (1, 2)),
    "nearest, 3-d": (nn.Upsample(scale_factor=2), (1, 1, 2, 1)),
}  # fmt: skip


def as_logits(module: nn.Module) -> nn.Module:
    net = nn.Sequential(module, nn.Flatten()).eval()
    torch.manual_seed(1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(0.2, 2)
            layer.weight.data.uniform_(-2, 2)
    return net


@pytest.mark.parametrize("name", LINEAR)
def test_linear_rules_are_exact(name: str) -> None:
    module, shape = LINEAR[name]
    net = as_logits(module)
    bound = graph_bound(net, shape)
    x = torch.randn(4, *shape, dtype=torch.float64)
    for norm in ALL:
        found, claimed = attained(net, x, norm), bound.bounds[norm].whole
        assert found <= claimed * (1 + 1e-9), norm
        assert found >= claimed * (1 - TIGHT), norm


# What is nonlinear: a module, points and the constants that are attained there.
NONLINEAR: dict[str, tuple[nn.Module, Tensor, dict[BoundNorm, float]]] = {
    "relu": (nn.ReLU(), flat(1.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "two-sided relu": (TwoSidedReLU(), flat(-1.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "relu of x and -x": (Do(lambda x: torch.relu(torch.cat([x, -x], 1))), flat(1.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "tanh and its rest": (Do(lambda x: torch.cat([x.tanh(), x.tanh() - x], 1)), flat(30.0, 3), {"l2": 1, "l1": 1}),
    "x - relu": (Do(lambda x: x - torch.relu(x)), flat(-1.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "x + relu": (Do(lambda x: x + torch.relu(x)), flat(1.0, 3), {"l2": 2, "linf": 2, "l1": 2}),
    "leaky relu": (nn.LeakyReLU(-1.7), flat(-1.0, 3), dict.fromkeys(ALL, f32(1.7))),
    "leaky relu by maximum": (Do(lambda x: torch.maximum(x, 0.1 * x)), flat(1.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "prelu": (nn.PReLU(3, init=2.5), flat(-1.0, 3), {"l2": 2.5, "linf": 2.5, "l1": 2.5}),
    "elu": (nn.ELU(2.0), flat(-1e-12, 3), {"l2": 2, "linf": 2, "l1": 2}),
    "softsign": (nn.Softsign(), flat(0.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "max pool": (nn.MaxPool2d(2), spike(1, 4, 4), {"l2": 1, "linf": 1, "l1": 1}),
    "overlapping max pool": (OVERLAP, spike(1, 5, 5), {"l2": 3, "linf": 1, "l1": 9}),
    "dilated max pool": (nn.MaxPool2d(3, 2, dilation=2), spike(1, 9, 9, at=(0, 4, 4)), {"l2": 3, "linf": 1, "l1": 9}),
    "1-d dilated max pool": (nn.MaxPool1d(3, 2, dilation=2), spike(1, 9, at=(0, 4)), {"l2": math.sqrt(3), "l1": 3}),
    "adaptive max pool": (nn.AdaptiveMaxPool1d(3), spike(1, 4, at=(0, 1)), {"l2": R2, "linf": 1, "l1": 2}),
    "amax": (Do(lambda x: x.amax(1)), spike(3, 2), {"l2": 1, "linf": 1, "l1": 1}),
    "norm pool": (NormPool2d(2), flat(1.0, 1, 4, 4), {"l2": 1, "linf": 2}),
    "norm pool, one entry": (NormPool2d(2), spike(1, 4, 4), {"l2": 1, "l1": 1}),
    "overlapping norm pool": (NormPool2d(2, 1), spike(1, 3, 3), {"l2": 1, "l1": 2}),
    "lp pool": (nn.LPPool2d(2, 2, 1), spike(1, 3, 3), {"l2": 2, "l1": 4}),
    "root mean square": (Do(lambda x: x.square().mean(1, keepdim=True).sqrt()), flat(1.0, 4), {"l2": 0.5, "linf": 1}),
    "l2 norm": (Do(lambda x: x.norm(dim=1, keepdim=True)), flat(1.0, 4), {"l2": 1, "linf": 2}),
    "sort": (Do(lambda x: x.sort(1)[0]), torch.tensor([[3.0, 1.0, 2.0]]).double(), {"l2": 1, "linf": 1, "l1": 1}),
    "softmax": (nn.Softmax(1), flat(0.0, 2), {"l2": 0.5, "linf": 0.5, "l1": 0.5}),
    "log softmax": (nn.LogSoftmax(1), spike(3, height=50.0), {"l2": math.sqrt(3), "linf": 2, "l1": 2}),
    "logsumexp": (Do(lambda x: x.logsumexp(1, keepdim=True)), spike(3, height=50.0), {"l2": 1, "linf": 1, "l1": 1}),
    "layer norm": (nn.LayerNorm(4, eps=0.25), flat(0.0, 4), {"l2": 2}),
    "group norm": (nn.GroupNorm(1, 4, eps=0.25), flat(0.0, 4, 1), {"l2": 2}),
    "rms norm": (nn.RMSNorm(4, eps=0.25), flat(0.0, 4), {"l2": 2}),
    "maximum of halves": (Do(lambda x: torch.maximum(x[:, :2], x[:, 2:])), flat(0.0, 4) + torch.arange(4.0), {"l2": 1}),
    "branch read twice": (Do(lambda x: torch.relu(x) + x.relu().flip(1)), flat(1.0, 2), {"l2": 2, "linf": 2, "l1": 2}),
    "split t": (Do(lambda x: 0.6 * (0.6 * x) + 0.8 * torch.relu(0.8 * x)), flat(1.0, 2), {"l2": 1, "linf": 1, "l1": 1}),
    "abs": (Do(torch.abs), flat(1.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "celu": (nn.CELU(2.0), flat(1.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "softplus": (nn.Softplus(), flat(19.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "threshold": (nn.Threshold(0.5, 0.5), flat(1.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "rrelu": (nn.RReLU(1.5, 2.5), flat(-1.0, 3), {"l2": 2, "linf": 2, "l1": 2}),
    "clamps": (Do(lambda x: x.clamp(-1, 1).clamp_min(-2).clamp_max(2)), flat(0.0, 3), {"l2": 1, "linf": 1, "l1": 1}),
    "minimum": (Do(lambda x: torch.minimum(x[:, :2], x[:, 2:])), flat(0.0, 4) + torch.arange(4.0), {"l2": 1}),
    "maximum of two": (Do(lambda x: torch.max(x, torch.min(x, 0.5 * x))), flat(1.0, 4), {"l2": 1}),
    "amin": (Do(lambda x: x.amin(1)), spike(3, 2, height=-1.0), {"l2": 1, "linf": 1, "l1": 1}),
    "min": (Do(lambda x: x.min(1)[0]), spike(3, 2, height=-1.0), {"l2": 1, "linf": 1, "l1": 1}),
    "adaptive max pool, 2-d": (nn.AdaptiveMaxPool2d(2), spike(1, 3, 3), {"l2": 2, "linf": 1, "l1": 4}),
    "adaptive max pool, 3-d": (nn.AdaptiveMaxPool3d(1), spike(1, 2, 2, 2), {"l2": 1, "linf": 1, "l1": 1}),
    "max pool, 3-d": (nn.MaxPool3d(2, 1), spike(1, 3, 3, 3), {"l2": math.sqrt(8), "linf": 1, "l1": 8}),
    "topk": (Do(lambda x: x.topk(2, 1)[0]), spike(4) + torch.arange(4.0), {"l2": 1, "linf": 1, "l1": 1}),
    "msort": (Do(lambda x: torch.msort(x.T).T), spike(4) + torch.arange(4.0), {"l2": 1, "linf": 1, "l1": 1}),
    "median": (Do(lambda x: x.median(1, keepdim=True)[0]), spike(3) + torch.arange(3.0), {"l2": 1, "linf": 1, "l1": 1}),
    "kthvalue": (Do(lambda x: x.kthvalue(2, 1, keepdim=True)[0]), spike(3) + torch.arange(3.0), {"l2": 1}),
    "instance norm": (nn.InstanceNorm1d(1, eps=0.25), flat(0.0, 1, 4), {"l2": 2}),
    "interpolation": (nn.Upsample(scale_factor=2, mode="bilinear"), flat(0.0, 1, 2, 2), {"linf": 1}),
    "interpolation, 1-d": (nn.Upsample(scale_factor=2, mode="linear"), flat(0.0, 1, 3), {"linf": 1}),
    "interpolation, 3-d": (nn.Upsample(scale_factor=2, mode="trilinear"), flat(0.0, 1, 2, 2, 2), {"linf": 1}),
    "interleaved branches": (
        Do(lambda x: torch.cat([x[:, :2], x[:, 2:].relu()], 1)), flat(1.0, 4), {"l2": 1, "linf": 1, "l1": 1}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_rules_are_attained(name: str) -> None:
    module, x, expected = NONLINEAR[name]
    net = as_logits(module)
    bound = graph_bound(net, tuple(x.shape[1:]))
    for norm in ALL:
        claimed = bound.bounds[norm].whole
        found = attained(net, x, norm)
        assert found <= claimed * (1 + 1e-9), norm
        if norm in expected:
            assert claimed == pytest.approx(expected[norm], rel=1e-7), norm
            assert found >= claimed * (1 - TIGHT), norm


def max_min(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)


def test_max_min_is_nonexpansive() -> None:
    bound = graph_bound(as_logits(Do(max_min)), (4,))
    assert [bound.bounds[n].whole for n in ALL] == [1, 1, 1]


def tanh_gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


ENDS = [-1e6, -1e3, -3 + 1e-12, -1e-12, 1e-12, 3 - 1e-12, 1e3, 1e6]
FUNCTIONS = {
    "gelu_tanh": tanh_gelu, "log_sigmoid": functional.logsigmoid, "erf": torch.erf, "atan": torch.atan,
    "asinh": torch.asinh, "sin": torch.sin, "cos": torch.cos, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
}  # fmt: skip


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_are_the_range_of_the_derivative(name: str) -> None:
    function = FUNCTIONS.get(name) or getattr(functional, name)
    x = torch.cat([torch.linspace(-12, 12, 2_000_001).double(), torch.tensor(ENDS, dtype=torch.float64)])
    x.requires_grad_()
    (derivative,) = torch.autograd.grad(function(x).sum(), x)
    low, high = SLOPES[name]
    assert low <= float(derivative.min()) <= low + 1e-3
    assert float(derivative.max()) <= high <= float(derivative.max()) * (1 + 2e-9) + 1e-15


def attaining(function: Callable[[Tensor], Tensor]) -> Tensor:
    """Where the slope is largest."""
    x = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    x = torch.cat([x, torch.tensor([-1e-12, 1e-12, -1e4, 1e4], dtype=torch.float64)]).requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    return x.detach()[slope.abs().argmax()].reshape(1, 1)


@pytest.mark.parametrize("name", SLOPES)
def test_activations_attain_their_constant(name: str) -> None:
    function = FUNCTIONS.get(name) or getattr(functional, name)
    best = attaining(function)
    net = as_logits(Do(function))
    claimed = graph_bound(net, (1,)).bounds["l2"].whole
    found = attained(net, best, "l2")
    assert claimed * (1 - TIGHT) <= found <= claimed * (1 + 1e-9)


INFINITE = {
    "square": lambda x: x * x, "exp": torch.exp, "product": lambda x: x * torch.sigmoid(x),
    "division": lambda x: x / (x.norm(dim=1, keepdim=True) + 1), "root": lambda x: torch.relu(x).sqrt(),
    "round": torch.round, "hardshrink": functional.hardshrink, "indices": lambda x: x.sort(1)[1].float(),
    "threshold": lambda x: functional.threshold(x, 0.5, 0.0), "where": lambda x: torch.where(x > 0, x, 1 - x),
    "attention": lambda x: functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0],
    "steep softplus": lambda x: functional.softplus(x, threshold=1.0),
    "root of a difference": lambda x: (9 - x**2).sqrt(),
    "other mean": lambda x: (x - 1).square() / (9 + x.mean(1, keepdim=True)), "glu": lambda x: functional.glu(x, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", INFINITE)
def test_what_has_no_constant_is_infinite_and_says_why(name: str) -> None:
    net = nn.Sequential(nn.Linear(4, 4), Do(INFINITE[name]), nn.Linear(2 if name == "glu" else 4, 2))
    bound = graph_bound(net.eval(), (4,))
    for norm in ALL:
        found = bound.bounds[norm]
        assert math.isinf(found.whole)
        assert not found.finite
        assert found.reasons
        assert found.reasons[0].startswith("1: ")
        assert torch.isinf(found.logits).all()
    assert [row.op for row in bound.rows if row.linear and "linear" in row.op] == ["linear", "linear"]
    assert name == "indices" or any(row.note for row in bound.rows)


def test_every_rule_that_is_registered_names_an_operator() -> None:
    missing = [n for n in rules.names() if not hasattr(torch.ops.aten, n)]
    assert missing == []


def test_ascent_finds_nothing_above_an_overlapping_pool() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 1), nn.Flatten(), nn.Linear(8, 3)).eval()
    bound = graph_bound(net, (1, 5, 5))
    pairs = search(net, (1, 5, 5), seed=0)
    for norm in ALL:
        assert float(ratios(pairs, norm).max()) <= bound.bounds[norm].whole


def scaled(found: object) -> object:
    """A result of a rule, its constants too small by `TIGHT`."""
    if isinstance(found, list):
        return [scaled(f) for f in found]
    if not isinstance(found, Value):
        return found
    part = found.part and replace(found.part, gain=less(found.part.gain))
    return replace(found, bounds=less(found.bounds), part=part)


def less(bounds: Bounds) -> Bounds:
    return Bounds(*(bounds[n] * (1 - TIGHT) for n in ALL))


def cases() -> list[tuple[nn.Module, Tensor]]:
    """Networks with points at which their bound is attained in some norm."""
    torch.manual_seed(1)
    found = [(as_logits(module), torch.randn(4, *shape).double()) for module, shape in LINEAR.values()]
    found += [(as_logits(module), x) for module, x, _ in NONLINEAR.values()]
    for name in SLOPES:
        function = FUNCTIONS.get(name) or getattr(functional, name)
        found.append((as_logits(Do(function)), attaining(function)))
    return found


# Ops that the networks below do not reach with an attained constant: other names for what is tested, and one
# constant that is no more than sound.
OTHER_NAMES = {
    "convolution",  # conv2d, as a trace calls it
    "_adaptive_avg_pool2d", "_log_softmax", "_native_batch_norm_legit_no_training", "_softmax", "_to_copy",
    "_unsafe_view", "alias", "detach", "square", "sign",
    "concat", "concatenate", "constant_pad_nd", "max_pool1d_with_indices",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "native_dropout", "native_layer_norm", "numpy_T", "t",
    "_assert_tensor_metadata", "alpha_dropout", "feature_dropout", "slice_copy", "norm", "clip", "split_with_sizes",
    "lift_fresh_copy", "swapdims", "swapaxes", "moveaxis", "view_as", "reshape_as", "sgn",
}  # fmt: skip


def test_every_rule_that_is_too_small_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = dict(rules.items())
    called: set[str] = set()
    target: list[str] = [""]

    def watch(name: str) -> object:
        def call(call: object) -> object:
            called.add(name)
            found = entries[name](call)
            return scaled(found) if name == target[0] else found

        call.affine = entries[name].affine
        return call

    monkeypatch.setattr(rules, "_entries", {name: watch(name) for name in entries})
    read_once = functools.cache(network_bound.read_graph)  # of every network, which is analysed many times
    monkeypatch.setattr(network_bound, "read_graph", read_once)
    caught: set[str] = set()
    for net, x in cases():
        shape = tuple(x.shape[1:])
        target[0] = ""
        called.clear()
        graph_bound(net, shape)
        for name in sorted(called - caught):
            target[0] = name
            bound = graph_bound(net, shape)
            if any(attained(net, x, norm) > bound.bounds[norm].whole * (1 + 1e-9) for norm in ALL):
                caught.add(name)
    finite = {name for name in entries if entries[name].__module__ != "robcert.bounds.lipschitz.rules.infinite"}
    missed = " ".join(sorted(finite - caught - OTHER_NAMES))
    assert not missed, missed
