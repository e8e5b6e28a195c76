"""Local Lipschitz constants: exact where nothing switches, and above every slope that is found in the region."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.linear.activations import Activation
from robcert.bounds.linear.rules.activations import SHAPES
from robcert.bounds.linear.slopes import slope_range
from robcert.bounds.linear.step import Interval
from robcert.certificates.local_gap import LocalConstants
from robcert.network import from_module
from robcert.nn.orthogonal import MaxMin
from robcert.threats.kind import norm_of
from robcert.types import BOUND_NORMS, BoundNorm

BOX = (-3.0, 4.0)


class Residual(nn.Module):
    """x + V relu(W x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class GroupSort(nn.Module):
    """Sorts groups of three."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, 3)).sort(2).values.flatten(1)


def hidden(kind: str) -> list[nn.Module]:
    """Layers from 12 entries to 12."""
    found: dict[str, list[nn.Module]] = {
        "relu": [nn.Linear(12, 12), nn.ReLU()],
        "leaky": [nn.Linear(12, 12), nn.LeakyReLU(0.3), nn.Linear(12, 12), nn.PReLU(12, 1.7)],
        "maxmin": [nn.Linear(12, 12), MaxMin()],
        "groupsort": [nn.Linear(12, 12), GroupSort()],
        "smooth": [nn.Linear(12, 12), nn.GELU(), nn.Linear(12, 12), nn.Tanh()],
        "abrupt": [nn.Linear(12, 12), nn.Hardswish(), nn.Linear(12, 12), nn.Hardtanh()],
        "pooled": [
            nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(),
            nn.Linear(36, 12),
        ],
        "residual": [Residual(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 12)))],
    }  # fmt: skip
    return found[kind]


def steepest(module: nn.Module, x: Tensor, y: int, eps: float, norm: BoundNorm) -> Tensor:
    """The largest dual norms of the gradients of f_y - f_j at random points of the ball: (classes,)."""
    generator, points = torch.Generator().manual_seed(0), [x.unsqueeze(0)]
    for share in (0.2, 0.6, 1.0):
        move = torch.randn(60, *x.shape, generator=generator, dtype=torch.float64)
        points.append(x + share * eps * 0.999 * move / norm_of(norm).norm(move).unsqueeze(1))
    at = torch.cat(points).clamp(*BOX).requires_grad_()
    logits = module(at)
    found: list[Tensor] = []
    for j in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad((logits[:, y] - logits[:, j]).sum(), at, retain_graph=True)
        found.append(norm_of(norm).dual(gradient).amax())
    return torch.stack(found)


@pytest.mark.parametrize("norm", BOUND_NORMS)
@pytest.mark.parametrize("kind", ["relu", "leaky", "maxmin", "groupsort", "smooth", "abrupt", "pooled", "residual"])
def test_no_gradient_in_a_ball_is_larger_than_its_constant_and_that_no_larger_than_the_global_one(
    kind: str, norm: BoundNorm
) -> None:
    torch.manual_seed(len(kind))
    module = nn.Sequential(*hidden(kind), *hidden("relu"), nn.Linear(12, 4))
    model = from_module(module, (12,), 4, box=BOX)
    constants, gained = LocalConstants(model, norm), 0
    module = module.double()
    x = torch.rand(4, 12, dtype=torch.float64)
    y = module(x).argmax(1)
    for eps in (1e-4, 0.05, 0.5):
        found = constants.at(x.float(), y, torch.full((4,), eps, dtype=torch.float64))
        everywhere = constants.everywhere(y)
        assert bool((found <= everywhere).all())
        gained += int((found < everywhere * 0.99).sum())
        for k in range(4):
            assert bool((steepest(module, x.float()[k].double(), int(y[k]), eps, norm) <= found[k]).all()), (eps, k)
    assert gained > 0 or kind == "abrupt"


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_the_constant_is_the_gradient_where_nothing_can_switch(norm: BoundNorm) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 12), MaxMin(), nn.Linear(12, 4))
    model = from_module(module, (12,), 4, box=BOX)
    module = module.double()
    x = torch.rand(3, 12).double()
    y = module(x).argmax(1)
    found = LocalConstants(model, norm).at(x.float(), y, torch.full((3,), 1e-7, dtype=torch.float64))
    for k in range(3):
        exact = steepest(module, x[k].float().double(), int(y[k]), 1e-9, norm)
        assert torch.allclose(found[k], exact, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if all(shape.convexity)])
def test_slopes_of_smooth_functions_lie_in_their_range(name: str) -> None:
    step = Activation("y", "", ("x",), (400,), SHAPES[name])
    generator = torch.Generator().manual_seed(0)
    ends = torch.randn(2, 400, generator=generator, dtype=torch.float64) * 4
    low, high = ends.amin(0, keepdim=True), ends.amax(0, keepdim=True)
    least, most = slope_range(step, Interval(low, high))
    for share in torch.linspace(0, 1, 101, dtype=torch.float64):
        t = (low + share * (high - low)).requires_grad_()
        (slope,) = torch.autograd.grad(SHAPES[name].value(t).sum(), t)
        assert bool(((least <= slope + 1e-9) & (slope <= most + 1e-9)).all())
