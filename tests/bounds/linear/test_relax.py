"""Linear relaxation: op by op on many points, on random networks, exact where it must be."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from robcert.bounds.linear.backward import both_bounds, lower_bound
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.bounds.linear.step import Interval
from robcert.certificates.margins import margins, pairs
from robcert.errors import EvaluationError
from robcert.network import from_module
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.pooling import NormPool2d
from robcert.types import BOUND_NORMS, BoundNorm
from tests.bounds.linear.relaxations import BALLS, MODES, bounds, differences, programs, smallest
from tests.bounds.lipschitz.random_networks import Do

OPS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(4, 3),
    "conv": lambda: nn.Conv2d(2, 3, 3, padding=1),
    "conv stride dilation": lambda: nn.Conv2d(2, 4, 2, stride=2, padding=1, dilation=2, groups=2),
    "conv same": lambda: nn.Conv2d(2, 2, 2, padding="same"),
    "conv circular": lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
    "conv transpose": lambda: nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1),
    "batch norm": lambda: _normal(nn.BatchNorm2d(2)),
    "relu": nn.ReLU,
    "leaky relu": lambda: nn.LeakyReLU(0.3),
    "leaky relu, steep": lambda: nn.LeakyReLU(1.7),
    "leaky relu, negative": lambda: nn.LeakyReLU(-0.4),
    "prelu": lambda: nn.PReLU(2, init=0.2),
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(2.0),
    "gelu": nn.GELU,
    "gelu tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": lambda: nn.Hardtanh(-0.3, 0.8),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "log sigmoid": nn.LogSigmoid,
    "softshrink": lambda: nn.Softshrink(0.4),
    "abs": lambda: Do(torch.abs),
    "square": lambda: Do(torch.square),
    "root": lambda: Do(lambda x: (x.abs() + 0.01).sqrt()),
    "erf": lambda: Do(torch.erf),
    "atan": lambda: Do(torch.atan),
    "asinh": lambda: Do(torch.asinh),
    "product": lambda: Do(lambda x: x * torch.sigmoid(2 * x + 1)),
    "dropout": nn.Dropout,
    "max pool": lambda: nn.MaxPool2d(2),
    "max pool overlap": lambda: nn.MaxPool2d(3, 1, 1),
    "max pool ceil": lambda: nn.MaxPool2d(2, 3, 1, ceil_mode=True),
    "adaptive max": lambda: nn.AdaptiveMaxPool2d(3),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d(3),
    "norm pool": lambda: NormPool2d(2),
    "norm pool overlap": lambda: NormPool2d(2, 1),
    "lp pool": lambda: nn.LPPool2d(2, 2),
    "two-sided relu": TwoSidedReLU,
    "sort": lambda: Do(lambda x: x.sort(3)[0]),
    "groupsort": lambda: Do(lambda x: x.view(x.shape[0], 1, 2, 4, 4).sort(2)[0].view(x.shape)),
    "topk": lambda: Do(lambda x: x.topk(2, 3)[0]),
    "maximum": lambda: Do(lambda x: torch.maximum(x, x.flip(3))),
    "minimum": lambda: Do(lambda x: torch.minimum(x[:, :1], x[:, 1:])),
    "amax": lambda: Do(lambda x: x.amax((2, 3))),
    "min": lambda: Do(lambda x: x.min(2)[0]),
    "add": lambda: Do(lambda x: x + 0.5 * torch.relu(x)),
    "mean subtraction": lambda: Do(lambda x: x - x.mean((2, 3), keepdim=True)),
    "concat": lambda: Do(lambda x: torch.cat([x, torch.relu(x)], 1)),
    "where": lambda: Do(lambda x: torch.where(torch.arange(4) % 2 == 0, x, torch.tanh(x))),
    "pad": lambda: Do(lambda x: functional.pad(x, (1, 2), value=0.3)),
    "reshape": lambda: Do(lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], 8, 4)),
    "upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "scale": lambda: Do(lambda x: (x - 0.4) / 0.3 * -2),
    "vector norm": lambda: Do(lambda x: torch.linalg.vector_norm(x, dim=1)),
}  # fmt: skip
POINTS = 10_000


def _normal(layer: nn.BatchNorm2d) -> nn.Module:
    nn.init.uniform_(layer.running_mean, -1, 1)  # pyright: ignore[reportArgumentType]
    nn.init.uniform_(layer.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]
    nn.init.uniform_(layer.weight, -1.5, 1.5)
    return layer


@pytest.mark.drawn(2)
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("width", [0.02, 1.0, 6.0])
def test_linear_bounds_of_every_op_hold_on_ten_thousand_points(name: str, width: float) -> None:
    """The op between two affine maps, so that its input has any sign: intervals and lines against values."""
    torch.manual_seed(len(name))
    net = nn.Sequential(Do(lambda x: 4 * x - 2), OPS[name](), nn.Flatten()).eval()
    model = from_module(net, (2, 4, 4), None, box=(-50.0, 50.0))
    found = program(model)
    x = torch.rand(3, 2, 4, 4)
    around = region(x, torch.full((3,), width / 8, dtype=torch.float64), "linf", (-50.0, 50.0))
    relaxed = relax(found, around, "crown-ibp")
    size = found.shapes[found.logits][0]
    rows = torch.cat([torch.eye(size), -torch.eye(size), torch.randn(6, size)]).double()
    lines = lower_bound(relaxed, found.logits, Rows(rows.expand(3, -1, -1).contiguous()))
    flat = lower_bound(relaxed, found.logits, Rows(rows.expand(3, -1, -1).contiguous()), to_inputs=False)
    exact = model.module.double()
    last: Interval = relaxed.intervals[found.logits]
    for k in range(3):
        share = torch.rand(POINTS, 2, 4, 4, dtype=torch.float64)
        share[: POINTS // 2] = share[: POINTS // 2].round()
        points = around.lower[k] + share * (around.upper[k] - around.lower[k])
        with torch.no_grad():
            values = exact(points)
        slack = 1e-12 * (1 + values.abs().amax())
        assert bool((values >= last.lower[k] - slack).all() and (values <= last.upper[k] + slack).all())
        least = (values @ rows.T).amin(0)
        assert bool((lines[k] <= least + slack).all())
        assert bool((flat[k] <= least + slack).all())


def test_lines_that_are_too_tight_are_caught() -> None:
    """The check above can fail: a chord below its function is found by the points."""
    found = program(from_module(nn.Sequential(nn.ReLU(), nn.Flatten()), (1, 2, 2), None, box=(-9.0, 9.0)))
    around = region(torch.zeros(1, 1, 2, 2), torch.ones(1, dtype=torch.float64), "linf", (-9.0, 9.0))
    relaxed = relax(found, around, "crown-ibp")
    relaxed.lines(found.steps[0]).upper_shift.mul_(0.9)
    bound = lower_bound(relaxed, found.logits, Rows(-torch.eye(4, dtype=torch.float64).unsqueeze(0)))
    assert bool((bound > -1.0).all()), "ReLU reaches 1"


def sound(seeds: range) -> int:
    count = 0
    for seed, model, found, what in programs(seeds):
        x = torch.rand(3, *model.input_shape, generator=torch.Generator().manual_seed(seed))
        rows = differences(model.num_classes)
        for norm, eps in BALLS:
            least = smallest(model.module, x, norm, eps, rows, seed)
            tolerance = 1e-6 * (1 + least.abs())  # what layers compute of their weights: float32 there, float64 here
            for mode in MODES:
                bound = bounds(found, x, norm, eps, rows, mode)
                assert bool((bound <= least + tolerance).all()), (what, norm, mode)
        count += 1
    return count


@pytest.mark.parametrize("part", range(4))
def test_nothing_gets_below_the_bounds_of_random_networks(part: int) -> None:
    assert sound(range(6 * part, 6 * part + 6)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_nothing_gets_below_the_bounds_of_more_random_networks(part: int) -> None:
    assert sound(range(100 + 20 * part, 120 + 20 * part)) >= 14


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_linear_networks_are_bounded_exactly(norm: BoundNorm) -> None:
    """Several linear layers; far from the sides of the box the minimum is the value less eps times the dual norm."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Dropout(), nn.Linear(9, 5), nn.Linear(5, 3))
    model = from_module(net, (3, 2, 2), 3, box=(-10.0, 11.0))
    x, eps = torch.rand(5, 3, 2, 2), 0.3
    exact = copy.deepcopy(model.module).double()
    weight = torch.autograd.functional.jacobian(lambda t: exact(t.view(1, 3, 2, 2))[0], torch.zeros(12).double())
    rows = differences(3)
    order = {"l2": 2.0, "linf": 1.0, "l1": float("inf")}[norm]
    found = program(model)
    around = region(x, torch.full((5,), eps, dtype=torch.float64), norm, model.box)
    around = relax(found, around, "crown")
    executed, bound = both_bounds(around, found.logits, Rows(rows.expand(5, -1, -1).contiguous()))
    with torch.no_grad():
        truth = exact(x.double()) @ rows.T - eps * torch.linalg.vector_norm(rows @ weight, order, dim=1)
    assert bool((bound <= truth + 1e-12).all())
    assert torch.allclose(bound, truth, rtol=0, atol=1e-9)
    assert bool((executed <= bound).all()) and torch.allclose(executed, truth, rtol=0, atol=1e-4)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_ball_that_sticks_out_of_the_box_is_cut(norm: BoundNorm) -> None:
    """Against a convex solver on the intersection itself."""
    from scipy.optimize import LinearConstraint, NonlinearConstraint, minimize

    generator = torch.Generator().manual_seed(3)
    x = torch.rand(4, 6, generator=generator).round()
    eps = 0.7 if norm == "l2" else 1.2
    a = torch.randn(4, 3, 6, generator=generator, dtype=torch.float64)
    around = region(x, torch.full((4,), eps, dtype=torch.float64), norm, (0.0, 1.0))
    found = around.minimum(Rows(a))
    for i in range(4):
        for k in range(3):
            cost, here = a[i, k].numpy(), x[i].double().numpy()
            if norm == "l2":
                inside = NonlinearConstraint(lambda t, here=here: ((t - here) ** 2).sum(), -1, eps**2)
                solved = minimize(lambda t, cost=cost: cost @ t, here, jac=lambda t, cost=cost: cost,
                                  bounds=[(0, 1)] * 6, constraints=[inside], method="SLSQP")  # fmt: skip
            else:
                sign = 1 - 2 * here  # entries at a side of the box can only move away from it
                inside = LinearConstraint(sign.reshape(1, -1), -9, eps + sign @ here)  # pyright: ignore[reportArgumentType]
                solved = minimize(lambda t, cost=cost: cost @ t, here, jac=lambda t, cost=cost: cost,
                                  bounds=[(0, 1)] * 6, constraints=[inside], method="SLSQP")  # fmt: skip
            assert float(found[i, k]) <= solved.fun + 1e-6
            assert float(found[i, k]) >= solved.fun - 1e-4


def test_no_method_is_looser_than_intervals_and_alpha_not_than_its_start(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    looser = total = gained = 0
    for k in range(6):
        net = nn.Sequential(nn.Flatten(), nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 4))
        model = from_module(net, (8,), 4)
        found, x = program(model), torch.rand(8, 8)
        y = model.module(x).argmax(1)
        for norm, eps in BALLS:
            around = region(x, torch.full((8,), eps * (1 + k), dtype=torch.float64), norm, model.box)
            ibp, fast, crown = (margins(found, around, y, mode) for mode in MODES)
            alpha = margins(found, around, y, "crown", alpha=10)
            assert bool((fast.value >= ibp.value).all() and (crown.value >= ibp.value).all())
            assert bool((alpha.value >= crown.value).all())
            looser, total = looser + fast.looser, total + fast.bounds
            gained += int((alpha.smallest > crown.smallest + 1e-9).sum())
    assert gained > 0
    with capsys.disabled():
        sys.stdout.write(f"\nlinear bounds alone were looser than intervals for {100 * looser / total:.1f}%\n")


def test_rows_with_a_window_give_what_whole_rows_give() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(3, 4, 2, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip
    found = program(from_module(net, (1, 8, 8), 3))
    x = torch.rand(2, 1, 8, 8)
    for norm, eps in BALLS:
        around = region(x, torch.full((2,), eps, dtype=torch.float64), norm, (0.0, 1.0))
        relaxed = relax(found, around, "crown-ibp")
        target = next(iter(found.targets))
        channels, height, width = found.shapes[target]
        for y0, x0 in ((0, 0), (1, 2), (height - 2, width - 2)):
            a = torch.randn(2, 5, channels, 2, 2, dtype=torch.float64)
            rows = Rows(a, (y0, y0 + 2, x0, x0 + 2))
            cut = lower_bound(relaxed, target, rows)
            whole = lower_bound(relaxed, target, rows.whole(found.shapes[target]))
            assert torch.allclose(cut, whole, rtol=0, atol=1e-9)


def test_an_op_without_a_relaxation_is_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), Do(lambda x: torch.special.i0(x)), nn.Linear(4, 2))
    with pytest.raises(EvaluationError, match=r"special_i0.*of layer") as raised:
        program(from_module(net, (4,), 2))
    assert "@relaxation" in str(raised.value)


def test_the_margin_rows_are_differences_to_the_label() -> None:
    rows = pairs(torch.tensor([1]), 3)
    assert rows[0].tolist() == [[-1, 1, 0], [0, 0, 0], [0, 1, -1]]
