"""Shortcuts on the way back give what the steps themselves give: kernels as rows, and pooled convolutions in one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robcert.bounds.linear.backward import lower_bound
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.convolution import Convolution
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import Program, program
from robcert.certificates.margins import margins
from robcert.network import from_module
from tests.bounds.linear.relaxations import BALLS


def network(kernel: int, stride: int, padding: int, slope: float, pool: nn.Module) -> tuple[nn.Module, Program]:
    torch.manual_seed(0)
    act = nn.LeakyReLU(slope) if slope else nn.ReLU()
    net = nn.Sequential(
        nn.Conv2d(2, 3, kernel, stride, padding), act, pool, nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip
    net(torch.rand(1, 2, 11, 10))
    return net, program(from_module(net, (2, 11, 10), 3))


CASES = [
    (3, 1, 1, 0.0, nn.MaxPool2d(2)),
    (5, 2, 2, 0.0, nn.MaxPool2d(2, 2, 1)),
    (2, 1, 0, 0.1, nn.MaxPool2d((2, 1), (3, 2))),
    (3, 1, 2, 0.0, nn.MaxPool2d(2, ceil_mode=True)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "slope", "pool"), CASES)
def test_convolution_relu_and_pooling_in_one(
    kernel: int, stride: int, padding: int, slope: float, pool: nn.Module
) -> None:
    _, found = network(kernel, stride, padding, slope, pool)
    assert len(found.fused) == 2
    x = torch.rand(3, 2, 11, 10)
    for norm, eps in BALLS:
        around = region(x, torch.full((3,), eps, dtype=torch.float64), norm, (0.0, 1.0))
        relaxed = relax(found, around, "crown-ibp")
        for name in found.fused:
            channels, height, width = found.shapes[name]
            for window in (None, (0, 1, 0, 1), (height - 1, height, 0, width)):
                y0, y1, x0, x1 = window or (0, height, 0, width)
                rows = Rows(torch.randn(3, 4, channels, y1 - y0, x1 - x0, dtype=torch.float64), window)
                step_by_step, at_once = (lower_bound(relaxed, name, rows, fused=fused) for fused in (False, True))
                assert bool(torch.isfinite(at_once).all())
                assert torch.allclose(step_by_step, at_once, rtol=0, atol=1e-9), (name, window)


@pytest.mark.parametrize(("dilation", "stride", "padding"), [(1, 1, 1), (2, 1, 2), (1, 2, 0), (2, 3, 1)])
def test_rows_of_a_convolution_are_its_kernel(dilation: int, stride: int, padding: int) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 3, 3, stride, padding, dilation, bias=False), nn.Flatten())
    found = program(from_module(net, (2, 9, 8), None))
    step = next(s for s in found.steps if isinstance(s, Convolution))
    channels, height, width = step.shape
    for window in ((0, 1, 0, 2), (height - 2, height, width - 1, width)):
        shape = (channels, window[1] - window[0], window[3] - window[2])
        at = torch.randperm(torch.Size(shape).numel())[:4]
        units = torch.nn.functional.one_hot(at, torch.Size(shape).numel()).double().view(1, -1, *shape)
        pulled = step.pull(Rows(units, window), None).rows[0]
        direct = step.unit_rows(window, at)
        assert direct.window == pulled.window
        assert torch.equal(direct.a, pulled.a)


def test_bounds_of_an_image_do_not_depend_on_the_batch() -> None:
    net, found = network(3, 1, 1, 0.0, nn.MaxPool2d(2))
    x = torch.rand(4, 2, 11, 10)
    with torch.no_grad():
        y = net(x).argmax(1)
    for norm, eps in BALLS:
        around = region(x, torch.full((4,), eps, dtype=torch.float64), norm, (0.0, 1.0))
        together = margins(found, around, y, "crown").smallest
        for k in range(4):
            alone = margins(found, around.image(k), y[k : k + 1], "crown").smallest
            assert torch.allclose(together[k : k + 1], alone, rtol=0, atol=1e-9)


def test_only_entries_that_can_win_a_window_are_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refining everything takes four times as many bounds and gains less than a hundredth (in intervals alone)."""
    import robcert.bounds.linear.bounds as module

    net, found = network(3, 1, 1, 0.0, nn.MaxPool2d(2))
    x = torch.rand(6, 2, 11, 10)
    with torch.no_grad():
        y = net(x).argmax(1)
    around = region(x, torch.full((6,), 0.02, dtype=torch.float64), "linf", (0.0, 1.0))
    some = margins(found, around, y, "crown")
    monkeypatch.setattr(module, "_wanted", lambda _found, _node, i: torch.ones_like(i.lower, dtype=torch.bool))
    everything = margins(found, around, y, "crown")
    assert 4 * some.bounds < everything.bounds
    ibp = margins(found, around, y, "ibp")
    real = torch.isfinite(some.value)
    gained, more = (torch.where(real, m.value - ibp.value, 0).sum() for m in (some, everything))
    assert 0.99 * float(more) < float(gained)
