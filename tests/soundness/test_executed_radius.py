"""Float32 misclassifications beside the certified radius, refined to neighbouring floats: none lies inside it.

A third of the networks have certificates that are exact in real arithmetic, so that rounding alone decides between the
executed radius and the real one: there misclassifications are found inside the latter, and a certificate that leaves
rounding out is contradicted. The gap, whose executed radius rests on rounding in the ball of the real one, is held to
the same on networks on which that bound decides.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.linear.backward import Relaxation
from robcert.certificates import Search, certificates, executed
from robcert.network import from_module
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.pooling import NormPool2d
from robcert.types import BOUND_NORMS, BoundNorm, LoadedModel

SHAPE = (1, 6, 6)
CLASSES = 4


def uneven(layer: nn.Linear) -> nn.Linear:
    """Weights of very different size, as large ones cancel: each is there twice, with both signs, of inputs alike."""
    with torch.no_grad():
        layer.weight *= 10 ** (4 * torch.rand_like(layer.weight) - 2)
        layer.weight[:, 1::2] = -layer.weight[:, ::2] * (1 + 0.01 * torch.randn_like(layer.weight[:, ::2]))
    return layer


class Paths(nn.Module):
    """One hidden unit a path: w relu(v x + b), a pixel each, whose unit is on in the whole box."""

    def __init__(self) -> None:
        super().__init__()
        self.v, self.b = nn.Parameter(torch.rand(36) + 0.5), nn.Parameter(torch.rand(36) * 100 + 20)
        self.head = nn.Linear(36, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.flatten(1) * self.v + self.b).relu())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(36, 36), nn.Linear(36, 36), nn.Linear(36, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        x = x + self.two(self.one(x).relu())
        return self.head(torch.cat([x, (x - 0.5) / 0.3], 1)[:, 18:54])


def perceptron(activation: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        width = 24 if activation is not TwoSidedReLU else 12
        layers = [nn.Linear(36, width), activation(), nn.Linear(24, width), activation()]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(24, CLASSES))

    return build


def pictures(pool: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(36, CLASSES))


def linear(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers, uneven(nn.Linear(36, CLASSES)))


def normalised() -> nn.Module:
    norm = nn.BatchNorm2d(1)
    norm.running_mean, norm.running_var = torch.tensor([0.4]), torch.tensor([0.01])  # pyright: ignore
    return nn.Sequential(norm, nn.Flatten(), nn.Linear(36, CLASSES))


TIGHT: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)),
    "uneven": linear,
    "small": lambda: nn.Sequential(nn.Flatten(), Scaled(1e-6), nn.Linear(36, CLASSES)),
    "two linear": lambda: linear(nn.Linear(36, 36)),
    "three linear": lambda: linear(nn.Linear(36, 200), nn.Linear(200, 36)),
    "paths": Paths,
    "convolution": lambda: nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(96, CLASSES)),
    "average": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(9, CLASSES)),
    "batch norm": normalised,
    "log-softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES), nn.LogSoftmax(1)),
    "offset": lambda: linear(Scaled(3.0, 50.0)),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    **{
        kind.__name__: perceptron(kind)
        for kind in (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.LeakyReLU, nn.Mish,
                     nn.Hardswish, nn.SELU, nn.Softsign, nn.ReLU6, nn.PReLU, TwoSidedReLU)
    },
    "max pooling": pictures(nn.MaxPool2d(2)),
    "average pooling": pictures(nn.AvgPool2d(2)),
    "norm pooling": pictures(NormPool2d(2)),
    "residual": Residual,
}  # fmt: skip


class Scaled(nn.Module):
    def __init__(self, scale: float, shift: float = 0.0) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def built(name: str) -> LoadedModel:
    """A network whose answers to random images differ."""
    torch.manual_seed(len(name) + ord(name[0]))
    net = {**TIGHT, **OTHERS}[name]().eval()
    heads = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        heads[-1].bias -= net(torch.rand(500, *SHAPE)).mean(0)
    return from_module(net, SHAPE, CLASSES, box=(-9.0, 10.0), name=name)


def answers(model: LoadedModel, points: Tensor) -> list[Tensor]:
    """The answers of the executed network in batches of several sizes, whose sums may have other orders."""
    with torch.no_grad():
        sizes = (len(points), 7, 1) if len(points) < 64 else (len(points), 7)
        return [torch.cat([model.module(part).argmax(1) for part in points.split(size)]) for size in sizes]


def wrong(model: LoadedModel, points: Tensor, y: Tensor) -> Tensor:
    return torch.stack([found != y for found in answers(model, points)]).any(0)


def length(step: Tensor, norm: BoundNorm) -> Tensor:
    order = {"l2": 2.0, "linf": torch.inf, "l1": 1.0}[norm]
    return torch.linalg.vector_norm(step.flatten(1), order, dim=1)


def steepest(model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm) -> Tensor:
    """Unit steps along which the answer changes first, if the network were linear: (n, *shape) float64."""
    net = copy.deepcopy(model.module).double()
    x = x.double().requires_grad_()
    logits = net(x)
    best, step = torch.full((len(x),), torch.inf, dtype=torch.float64), torch.zeros_like(x)
    for j in range(CLASSES):
        gap = logits.gather(1, y[:, None])[:, 0] - logits[:, j]
        (slope,) = torch.autograd.grad(gap.sum(), x, retain_graph=True)
        flat = slope.flatten(1)
        if norm == "l2":
            unit = -flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-300)
        elif norm == "linf":
            unit = -flat.sign()
        else:
            unit = torch.zeros_like(flat).scatter(1, flat.abs().argmax(1, keepdim=True), 1.0) * -flat.sign()
        far = gap.detach() / -(unit * flat).sum(1).clamp_max(-1e-300)
        closer = (y != j) & (far < best)
        best = torch.where(closer, far, best)
        step = torch.where(closer.view(-1, 1, 1, 1), unit.view_as(x), step)
    return step.detach() * best.view(-1, 1, 1, 1)


def nearest_error(model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm) -> Tensor:
    """The smallest distance of a float32 input that was answered wrongly, infinite where none was found: (n,)."""
    step = steepest(model, x, y, norm)
    found = torch.full((len(x),), torch.inf, dtype=torch.float64)

    def tried(share: Tensor, jitter: bool = False) -> Tensor:
        points = (x.double() + share.view(-1, 1, 1, 1) * step).float()
        if jitter:
            side = torch.where(torch.rand_like(points) < 0.5, -torch.inf, torch.inf)
            near = torch.nextafter(points, side)
            points = torch.where((step != 0) & (torch.rand_like(points) < 0.3), near, points)
        errs = wrong(model, points, y)
        far = length(points.double() - x.double(), norm)
        found[errs] = torch.minimum(found[errs], far[errs])
        return errs

    low, high = torch.zeros(len(x), dtype=torch.float64), torch.ones(len(x), dtype=torch.float64) * 1.0001
    for _ in range(4):
        high = torch.where(tried(high), high, high * 1.7)
    for _ in range(36):
        middle = (low + high) / 2
        errs = tried(middle)
        low, high = torch.where(errs, low, middle), torch.where(errs, middle, high)
    for exponent in itertools.chain.from_iterable(itertools.repeat((-7.5, -7.0, -6.5, -6.0, -5.0), 6)):
        tried(high * (1 + (torch.rand(len(x), dtype=torch.float64) * 2 - 1.6) * 10**exponent), jitter=True)
    return found


def radius(model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, method: str) -> Tensor:
    return certificates.get(method)(model, x, y, norm, Search(tolerance=1e-9)).radius


def real_radius(model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, method: str) -> Tensor:
    """The radius of a certificate that leaves the rounding of the network out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Relaxation, "executed", lambda self, step, given, exact: exact)
        return radius(model, x, y, norm, method)


def checked(
    name: str, n: int, certify: Callable[..., Tensor] = radius, method: str | None = None
) -> tuple[int, int, int]:
    """Images with a radius, with an error, and with an error inside the real radius; no error is inside the radius.

    Args:
        name: of the network.
        n: images, for all norms together.
        certify: the radius that is held against errors.
        method: the certificate; by default linear bounds.
    """
    model, images, errors, inside = built(name), 0, 0, 0
    for k, norm in enumerate(BOUND_NORMS):
        torch.manual_seed(k)
        x = torch.rand(-(-n // 3), *SHAPE)
        y = answers(model, x)[0]
        way = method or ("ibp" if k == 2 and name in TIGHT else "crown")
        proven, real = certify(model, x, y, norm, way), real_radius(model, x, y, norm, way)
        nearest = nearest_error(model, x, y, norm)
        assert not bool((nearest < proven * (1 - 2.0**-45)).any()), "an error inside the executed radius"
        images += int((proven > 0).sum())
        errors += int(torch.isfinite(nearest).sum())
        inside += int((nearest < real * (1 - 2.0**-45)).sum())
    return images, errors, inside


@pytest.mark.drawn(8)
@pytest.mark.parametrize("name", [*TIGHT, *OTHERS])
def test_no_float32_error_lies_inside_the_executed_radius(name: str) -> None:
    images, errors, inside = checked(name, 9)
    assert images >= 6 and errors >= 6
    print(f"{name}: {errors} errors beside {images} radii, {inside} inside the real radius")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TIGHT, *OTHERS])
def test_no_float32_error_lies_inside_the_executed_radius_of_more_images(name: str) -> None:
    images, errors, inside = checked(name, 342)
    assert images >= 200 and errors >= 200
    print(f"{name}: {errors} errors beside {images} radii, {inside} inside the real radius")


LINEAR = ("linear", "uneven", "small", "two linear", "three linear", "convolution", "average", "batch norm", "offset")
"""Tight ones of which the gap knows the exact radius too."""


@pytest.mark.drawn(4)
@pytest.mark.parametrize("name", LINEAR)
def test_no_float32_error_lies_inside_the_executed_radius_of_the_gap(name: str) -> None:
    images, errors, inside = checked(name, 9, method="gap")
    assert images >= 6 and errors >= 6
    print(f"{name}, gap: {errors} errors beside {images} radii, {inside} inside the real radius")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TIGHT, *OTHERS])
def test_no_float32_error_lies_inside_the_executed_radius_of_the_gap_of_more_images(name: str) -> None:
    images, errors, inside = checked(name, 342, method="gap")
    assert images >= 200 and errors >= 200
    assert (inside > 0) >= (name in LINEAR)
    print(f"{name}, gap: {errors} errors beside {images} radii, {inside} inside the real radius")


@pytest.mark.parametrize("name", ["uneven", "two linear", "offset"])
def test_it_is_rounding_in_the_ball_that_decides_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = built(name), torch.rand(20, *SHAPE)
    y = answers(model, x)[0]
    found = radius(model, x, y, "linf", "gap")
    monkeypatch.setattr(executed, "_network", lambda model: None)
    norms = radius(model, x, y, "linf", "gap")
    assert int((found > norms).sum()) >= 15


@pytest.mark.parametrize("method", [None, "gap"])
def test_without_the_rounding_of_the_network_radii_are_wrong(method: str | None) -> None:
    """The check finds what it looks for: errors inside the radii of certificates in real arithmetic."""
    for name in ("linear", "uneven"):
        with pytest.raises(AssertionError, match="inside the executed radius"):
            checked(name, 9, real_radius, method)
