"""No execution in float32 is farther from real arithmetic than `robcert.bounds.rounding.logits` says."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from robcert.bounds.lipschitz.operators import Conv, Dense, transposed
from robcert.bounds.rounding.logits import gap_error64, logit_rounding, logit_rounding_at, logits64, pair_rounding_near
from robcert.bounds.rounding.rules import FLOAT32, FLOAT64
from robcert.bounds.rounding.rules.functions import FUNCTIONS
from robcert.bounds.rounding.rules.linear import absolute_norm
from robcert.errors import EvaluationError
from robcert.network import load_model
from robcert.network.load import from_module
from robcert.nn import split
from robcert.nn.activations import ScaledSigmoid, TwoSided, TwoSidedReLU
from robcert.nn.heads import LabelStacks
from robcert.nn.normalisation import LargestScaleNorm, SubtractMean
from robcert.nn.pooling import NormPool2d
from robcert.types import LoadedModel

U = 2.0**-24


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Beside(nn.Module):
    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.other(x)], 1)


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _max_min(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)


FUNCTIONAL = [
    *(nn.ReLU(), nn.LeakyReLU(0.1), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.Tanh()),
    *(nn.Softplus(), nn.Softplus(2.5), nn.ELU(1.3), nn.SELU(), nn.CELU(0.7), nn.Hardswish(), nn.Hardsigmoid()),
    *(nn.ReLU6(), nn.Softsign(), nn.LogSigmoid(), nn.Softshrink(0.3), nn.Hardtanh(-0.3, 0.7), TwoSidedReLU()),
    *(Function(lambda x: x - x.mean(1, keepdim=True)), Function(lambda x: 0.3 * x / 0.7 + 0.1), Function(torch.atan)),
    *(Function(lambda x: x.clamp(-0.3, 0.9)), Function(torch.sin), Function(torch.cos), Function(torch.erf)),
    *(Function(lambda x: torch.softmax(x, 1)), Function(lambda x: torch.log_softmax(x, 1)), nn.PReLU(init=0.3)),
    *(Function(torch.asinh), Function(torch.abs), Function(lambda x: 1 - x), Function(_max_min)),
]


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A random network of 1-6 layers, with weights of either sign or of one, and the shape of its input."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    channels, side = draw(st.integers(1, 3)), draw(st.integers(5, 9))
    shape = (channels, side, side)
    layers: list[nn.Module] = []
    x = torch.rand(2, *shape)
    for _ in range(draw(st.integers(0, 4))):
        layer = draw(spatial(x.shape[1], min(x.shape[2:])))
        layer.eval()
        with torch.no_grad():
            x = layer(x)
        layers.append(layer)
        if min(x.shape[2:]) < 3:
            break
    layers.append(nn.Flatten())
    width = x.flatten(1).shape[1]
    for _ in range(draw(st.integers(0, 2))):
        layers += [nn.Linear(width, 8), copy.deepcopy(draw(st.sampled_from(FUNCTIONAL)))]
        with torch.no_grad():
            width = layers[-1](torch.rand(2, 8)).shape[1]
    layers.append(nn.Linear(width, 4, bias=draw(st.booleans())))
    network = nn.Sequential(*layers)
    if draw(st.booleans()):  # rounding errors that do not cancel
        for parameter in network.parameters():
            parameter.data.abs_()
    return network.eval(), shape


@st.composite
def spatial(draw: st.DrawFn, c: int, side: int) -> nn.Module:
    kind = draw(st.integers(0, 8))
    kernel = draw(st.integers(1, min(3, side)))
    if kind == 0:
        mode = draw(st.sampled_from(["zeros", "circular", "reflect", "replicate"]))
        return nn.Conv2d(c, 2 * c, kernel, draw(st.integers(1, 2)), kernel // 2, groups=draw(st.sampled_from([1, c])),
                         padding_mode=mode)  # fmt: skip
    if kind == 1:
        return nn.ConvTranspose2d(c, 3, kernel, draw(st.integers(1, 2)))
    if kind == 2:
        norm = nn.BatchNorm2d(c)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        return nn.Sequential(nn.LeakyReLU(0.5), norm)
    if kind == 3:
        return draw(st.sampled_from([nn.MaxPool2d(2, 1), nn.AvgPool2d(3, 1, 1), nn.AdaptiveAvgPool2d(3)]))
    if kind == 4:
        return draw(st.sampled_from([NormPool2d(2), NormPool2d(2, 1), nn.LPPool2d(2, 2)]))
    if kind == 5:
        same, wide = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c + 1, 3, padding=1)
        own: list[nn.Module] = [ScaledSigmoid(c, 1, 1), LargestScaleNorm(c), SubtractMean(), TwoSided(nn.Tanh())]
        own += [split.Residual(same, (c, 1, 1), 0.6), split.Residual(wide, (), 0.6), split.ConvexResidual(wide)]
        return draw(st.sampled_from([Residual(same), *own]))
    if kind == 6:
        return Beside(nn.Conv2d(c, 2, 1), nn.Sequential(nn.Conv2d(c, c, 1), nn.ReLU()))
    function = copy.deepcopy(draw(st.sampled_from(FUNCTIONAL)))
    return nn.Sequential(nn.Conv2d(c, 2 * c, kernel, padding=kernel // 2), function)


def loaded(network: nn.Module, shape: tuple[int, ...]) -> LoadedModel:
    return from_module(network, shape, name="drawn")


def measured(model: LoadedModel, x: Tensor, pairs: bool = False) -> Tensor:
    """|f in float32 - f in float64| of the worst logit, or difference of two, over batches of 1, 8 and all: (n,)."""
    exact = logits64(model, x)
    worst = torch.zeros(len(x), dtype=torch.float64)
    with torch.no_grad():
        for size in (1, 8, len(x)):
            parts = [model.module(part) for part in x.split(size)]
            off = torch.cat(parts).double() - exact
            worst = torch.maximum(worst, off.amax(1) - off.amin(1) if pairs else off.abs().amax(1))
    return worst


def inputs(model: LoadedModel, n: int = 42) -> Tensor:
    """Random points and corners of the box, and points that gradient ascent made large in some logit."""
    x = torch.rand(n, *model.input_shape)
    corners = (torch.rand(n, *model.input_shape) < 0.5).float()
    large = x.clone().requires_grad_(True)
    for _ in range(8):
        total = model.module(large).square().sum()
        (slope,) = torch.autograd.grad(total, large)
        large = (large + 0.3 * slope.sign()).clamp(0, 1).detach().requires_grad_(True)
    return torch.cat([x, corners, large.detach(), torch.ones_like(x[:1]), torch.zeros_like(x[:1])])


def report(*words: object) -> None:
    """What ``pytest -s`` shows."""
    print(*(f"{w:.3g}" if isinstance(w, float) else w for w in words))  # noqa: T201


def test_random_networks() -> None:
    """The bound holds, and within three orders of magnitude: scaled down that far it would be refuted."""
    ratios: list[float] = []

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(networks())
    def holds(drawn: tuple[nn.Module, tuple[int, ...]]) -> None:
        model = loaded(*drawn)
        bound = logit_rounding(model)
        worst = float(measured(model, inputs(model)).max())
        assert worst <= bound.error
        # Softplus jumps by 2e-9 at its threshold, in any format.
        assert bound.error64 < bound.error * 2.0**-25 or bound.error64 < bound.error * 1e-2
        if worst > 0:
            ratios.append(bound.error / worst)

    holds()
    ordered = sorted(ratios)
    report("E / measured: smallest", ordered[0], "median", ordered[len(ordered) // 2], "networks", len(ordered))
    assert ordered[0] < 50
    assert ordered[len(ordered) // 2] < 5000


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(networks())
def test_float64_against_the_graph(drawn: tuple[nn.Module, tuple[int, ...]]) -> None:
    """Two evaluations in float64 in different orders agree as well as the bound for float64 says."""
    from robcert.bounds.rounding.logits import analyse

    model = loaded(*drawn)
    x = inputs(model, 4)
    analysis, bound = analyse(model)
    difference = float((logits64(model, x) - analysis.logits64(x)).abs().max())
    assert difference <= 2 * bound.error64
    assert gap_error64(model) >= 2 * bound.error64


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(networks(), st.floats(0, 1))
def test_around_an_image(drawn: tuple[nn.Module, tuple[int, ...]], reach: float) -> None:
    model = loaded(*drawn)
    x = torch.rand(3, *model.input_shape)
    error = logit_rounding_at(model, x, reach)
    assert bool((error <= logit_rounding(model).error).all())
    step = torch.randn_like(x)
    step = 0.99 * reach * step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    near = (x + step).clamp(0, 1)
    assert bool((measured(model, near) <= error).all())
    assert bool((logit_rounding_at(model, x, reach / 2) <= error * (1 + 1e-12)).all())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(networks(), st.floats(0, 1))
def test_around_many_images(drawn: tuple[nn.Module, tuple[int, ...]], reach: float) -> None:
    """By the distance from a centre: sound, no better than it could be at the centre, the same alone and together."""
    model = loaded(*drawn)
    x = torch.rand(3, *model.input_shape) * torch.tensor([0.05, 0.5, 1.0]).view(3, 1, 1, 1)
    reaches = torch.tensor([reach, 0.0, math.inf], dtype=torch.float64)
    error = pair_rounding_near(model, x, reaches)
    assert bool((error <= logit_rounding(model).pair).all())
    assert float(error[2]) == logit_rounding(model).pair <= 2 * logit_rounding(model).error * (1 + 1e-12)
    assert [float(pair_rounding_near(model, x[k : k + 1], reaches[k : k + 1])) for k in range(3)] == error.tolist()
    step = torch.randn_like(x)
    step = 0.99 * reaches.clamp_max(5).float().view(-1, 1, 1, 1) * step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert bool((measured(model, (x + step).clamp(0, 1), pairs=True) <= error).all())


def test_a_dark_image_rounds_less() -> None:
    torch.manual_seed(0)
    model = from_module(nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)), (1, 8, 8))
    x = torch.cat([torch.full((1, 1, 8, 8), value) for value in (0.01, 0.1, 1.0)])
    error = pair_rounding_near(model, x, torch.zeros(3, dtype=torch.float64))
    everywhere = logit_rounding(model).pair
    assert everywhere * 0.01 <= float(error[0]) <= everywhere * 0.01 * 2 ** (1 / 16) * 1.01
    assert everywhere * 0.1 <= float(error[1]) <= everywhere * 0.1 * 2 ** (1 / 16) * 1.01
    assert float(error[2]) == everywhere


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions(name: str) -> None:
    """Each table entry holds, with room to spare, for the kernels of this machine."""
    calls = {
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "log_sigmoid": functional.logsigmoid,
        "softshrink": lambda x: functional.softshrink(x, 1.0),
        "erf": torch.erf,
        "atan": torch.atan,
        "asinh": torch.asinh,
        "sin": torch.sin,
        "cos": torch.cos,
    }
    function = calls.get(name) or getattr(functional, name)
    a, b = FUNCTIONS[name]
    x = torch.cat([torch.linspace(-30, 30, 400_001), torch.logspace(-30, 2, 100_001), -torch.logspace(-30, 2, 100_001)])
    error = (function(x).double() - function(x.double())).abs()
    allowed = U * (a * x.double().abs() + b) + 2.0**-120
    worst = float((error / allowed).max())
    report(name, worst, "of what is allowed")
    assert worst <= 0.6


@pytest.mark.parametrize(
    "function",
    [nn.Softplus(), nn.Softplus(3.0), nn.ELU(), nn.ELU(2.0), nn.CELU(0.3), nn.CELU(4.0), nn.LeakyReLU(0.37)],
)
def test_functions_with_parameters(function: nn.Module) -> None:
    """The identity, the function and nothing else: measured on one entry at a time."""
    network = nn.Sequential(nn.Flatten(), function, Function(lambda x: torch.cat([x, -x], 1)))
    model = from_module(network, (1,), box=(-30.0, 30.0))
    x = torch.linspace(-30, 30, 20_001).view(-1, 1)
    for start in (0, 6_000, 9_900, 10_050, 13_000, 19_000):
        part = x[start : start + 64]
        worst = measured(model, part)
        reach = float((part - part[0]).abs().max())
        assert float(worst.max()) <= float(logit_rounding_at(model, part[:1], reach)[0])


def test_linear_closed_form() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 10)
    model = from_module(nn.Sequential(nn.Flatten(), layer), (1, 8, 8))
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    gamma = 65 * U / (1 - 65 * U)
    expected = gamma * (float(weight.norm(dim=1).max()) * 8 + float(bias.abs().max()))
    assert logit_rounding(model).error == pytest.approx(expected, rel=1e-6)
    assert logit_rounding(model).error >= expected


def test_linear_is_nearly_attained() -> None:
    """Weights of one sign and a serial sum: the worst case is of the order of the bound."""
    layer = nn.Linear(256, 2, bias=False)
    nn.init.constant_(layer.weight, 1 / 3)
    model = from_module(nn.Sequential(nn.Flatten(), layer), (256,))
    x = torch.cat([torch.rand(64, 256), 0.999 * torch.ones(1, 256)])
    ratio = logit_rounding(model).error / float(measured(model, x).max())
    assert 1 < ratio < 300
    bound = logit_rounding(model).error * 1e-3
    assert float(measured(model, x).max()) > bound, "the check must be able to fail"


def test_logits_side_by_side_are_each_as_good_as_their_own_network() -> None:
    """Ten stacks: E is that of the worst of them, and not the root of ten such squares."""
    torch.manual_seed(0)
    all_of_them = LabelStacks(64, 10, [16], TwoSidedReLU, 2)

    def error_of(*stacks: nn.Module) -> float:
        some = LabelStacks(64, len(stacks), [16], TwoSidedReLU, 2)
        some.stacks = nn.ModuleList(stacks)
        return logit_rounding(from_module(nn.Sequential(nn.Flatten(), some), (1, 8, 8), len(stacks))).error

    together = error_of(*all_of_them.stacks)
    worst = max(error_of(stack, stack) for stack in all_of_them.stacks)
    assert together == pytest.approx(worst, rel=1e-12)


def test_grows_with_depth() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(16, 16)]
    errors = []
    for _ in range(4):
        layers += [nn.ReLU(), nn.Linear(16, 16)]
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight)
        errors.append(logit_rounding(from_module(nn.Sequential(*layers), (1, 4, 4))).error)
    assert errors == sorted(errors)
    assert errors[-1] > errors[0]


def test_scales_with_the_box() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 3, bias=False))
    small = from_module(network, (1, 3, 3))
    large = from_module(network, (1, 3, 3), box=(-4.0, 4.0))
    assert logit_rounding(large).error == pytest.approx(4 * logit_rounding(small).error, rel=1e-6)


def test_unit() -> None:
    assert FLOAT32.gamma(1) > U
    assert FLOAT64.gamma(10) == pytest.approx(10 * 2.0**-53)
    assert FLOAT32.gamma(2**23) == math.inf


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    *(st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(0, 10**6)),
    st.sampled_from(["zeros", "circular", "replicate"]),
)
def test_absolute_norm(kernel: int, stride: int, pad: int, seed: int, mode: str) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(3, 2, kernel, kernel, dtype=torch.float64) * (torch.rand(3, 2, kernel, kernel) < 0.7)
    op = Conv(weight, (5, 4), (stride, stride), ((pad, pad),) * 2, (1, 1), 1, mode)
    magnitude = Conv(weight.abs(), (5, 4), (stride, stride), ((pad, pad),) * 2, (1, 1), 1, mode)
    eye = torch.eye(40, dtype=torch.float64).view(40, 2, 5, 4)
    exact = float(torch.linalg.matrix_norm(magnitude.apply(eye).flatten(1), 2))
    found = absolute_norm(op, 2 * kernel * kernel)
    assert exact * (1 - 1e-12) <= found <= exact * 1.05 + 1e-30
    dense = Dense(torch.randn(7, 11, dtype=torch.float64))
    exact = float(torch.linalg.matrix_norm(dense.matrix.abs(), 2))
    assert exact * (1 - 1e-12) <= absolute_norm(dense, 11) <= exact * 1.01
    back = transposed(torch.randn(2, 3, kernel, kernel), (4, 4), (stride,) * 2, (0, 0), (1, 1))
    size = transposed(back.forward.weight.abs(), (4, 4), (stride,) * 2, (0, 0), (1, 1))
    exact = float(
        torch.linalg.matrix_norm(size.apply(torch.eye(32, dtype=torch.float64).view(32, 2, 4, 4)).flatten(1), 2)
    )
    assert exact * (1 - 1e-12) <= absolute_norm(back, 3 * kernel * kernel) <= exact * 1.05


def test_an_op_without_a_rule_is_named() -> None:
    network = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Flatten(), nn.Linear(36, 3))
    with pytest.raises(EvaluationError, match="upsample_bilinear2d"):
        logit_rounding(from_module(network, (1, 3, 3)))


def test_no_finite_constant_is_named() -> None:
    network = nn.Sequential(nn.Flatten(), Function(torch.exp), nn.Linear(9, 3))
    with pytest.raises(EvaluationError, match="exp"):
        logit_rounding(from_module(network, (1, 3, 3)))


def test_computed_constants() -> None:
    class Normed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, self.weight / self.weight.square().sum(1, keepdim=True).sqrt(), self.bias)

    model = from_module(nn.Sequential(nn.Flatten(), Normed(9, 3)), (1, 3, 3))
    with pytest.raises(EvaluationError, match="sum"):
        logit_rounding(model)
    assert logits64(model, torch.rand(3, 1, 3, 3)).shape == (3, 3)
    assert gap_error64(model) < 1e-12


def test_kernels_are_checked() -> None:
    model = from_module(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 3)), (1, 3, 3))
    logit_rounding(model)
    try:
        torch.set_float32_matmul_precision("medium")
        with pytest.raises(EvaluationError, match="medium"):
            logit_rounding(model)
    finally:
        torch.set_float32_matmul_precision("highest")
    with torch.backends.mkldnn.flags(enabled=False), pytest.raises(EvaluationError, match="NNPACK"):
        logit_rounding(model)
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(EvaluationError, match="autocast"):
        logit_rounding(model)
    logit_rounding(model)


def test_changed_weights_are_noticed() -> None:
    model = from_module(nn.Sequential(nn.Flatten(), nn.Linear(9, 3, bias=False)), (1, 3, 3))
    before = logit_rounding(model).error
    with torch.no_grad():
        next(iter(model.module.parameters())).mul_(2)
    assert logit_rounding(model).error == pytest.approx(2 * before, rel=1e-6)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_number_that_float32_does_not_have_is_rounded_in_where(swapped: bool) -> None:
    mask = torch.tensor([False, True])
    choose = (lambda x: torch.where(~mask, 0.1, x)) if swapped else (lambda x: torch.where(mask, x, 0.1))
    model = from_module(nn.Sequential(nn.Flatten(), Function(lambda x: choose(x.expand(-1, 2)))), (1, 1, 1))
    error = float(measured(model, torch.rand(9, 1, 1, 1)).max())
    assert 1e-9 < error < logit_rounding(model).error


def test_tiny_and_huge_weights() -> None:
    for factor in (1e-30, 1e-12, 1e12):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 2, 3), NormPool2d(2), nn.Flatten(), nn.Linear(8, 3))
        for parameter in network.parameters():
            parameter.data.mul_(factor)
        model = from_module(network, (1, 6, 6))
        assert float(measured(model, inputs(model)).max()) <= logit_rounding(model).error
    huge = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    huge[1].weight.data.fill_(5e36)
    model = replace(from_module(nn.Sequential(nn.Flatten(), nn.Linear(9, 3)), (1, 3, 3)), module=huge.eval())
    with pytest.raises(EvaluationError, match="overflow"):
        logit_rounding(model)


def test_digits() -> None:
    """The bound is small against the gaps of digits-l2nnn, and holds on the whole test set and beyond."""
    from robcert.data import load_dataset

    model = load_model("digits-l2nnn")
    x = load_dataset("digits").x
    logits = logits64(model, x).sort(dim=1, descending=True).values
    gap = float((logits[:, 0] - logits[:, 1]).median())
    bound = logit_rounding(model)
    worst = float(torch.maximum(measured(model, x).max(), measured(model, inputs(model)).max()))
    report("digits-l2nnn: E", bound.error, "measured", worst, "median gap", gap)
    assert worst <= bound.error
    assert bound.error < 0.01 * gap
