"""Products of two values, softmax and normalisation: planes against points, networks against samples and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.bounds.linear.bilinear import Bilinear
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.normalisation import Normalised
from robcert.bounds.linear.program import program
from robcert.bounds.linear.softmax import Softmax
from robcert.bounds.linear.step import Interval, Step
from robcert.errors import EvaluationError
from robcert.network import from_module
from tests.bounds.linear.relaxations import BALLS, MODES, bounds, differences, smallest

ROUND = 1e-9


def norm(centred: bool, eps: float) -> tuple[Step, Callable[..., Tensor]]:
    generator = torch.Generator().manual_seed(0)
    scale, shift = torch.randn(2, 2, 6, generator=generator, dtype=torch.float64)
    step = Normalised("y", "", ("x",), (3, 4), 2, scale, shift, eps, centred)

    def function(x: Tensor) -> Tensor:
        parts = x.reshape(len(x), 2, 6)
        parts = parts - parts.mean(-1, keepdim=True) if centred else parts
        parts = parts * (parts.square().mean(-1, keepdim=True) + eps).rsqrt()
        return (parts * scale + shift).reshape(len(x), 3, 4)

    return step, function


def product(
    function: Callable[[Tensor, Tensor], Tensor], one: tuple[int, ...], other: tuple[int, ...], terms: int
) -> tuple[Step, Callable[..., Tensor]]:
    shape = tuple(function(torch.zeros(1, *one), torch.zeros(1, *other)).shape[1:])
    return Bilinear("y", "", ("a", "b"), shape, function, (one, other), terms), function


STEPS: dict[str, tuple[tuple[tuple[int, ...], ...], Callable[[], tuple[Step, Callable[..., Tensor]]]]] = {
    "softmax": (((3, 4),), lambda: (Softmax("y", "", ("x",), (3, 4), 1), lambda x: x.softmax(2))),
    "softmax over rows": (((3, 4),), lambda: (Softmax("y", "", ("x",), (3, 4), 0), lambda x: x.softmax(1))),
    "softmax of a vector": (((5,),), lambda: (Softmax("y", "", ("x",), (5,), 0), lambda x: x.softmax(1))),
    "layer norm": (((3, 4),), lambda: norm(True, 1e-5)),
    "rms norm": (((3, 4),), lambda: norm(False, 1e-2)),
    "mul": (((3, 4), (3, 4)), lambda: product(torch.mul, (3, 4), (3, 4), terms=1)),
    "matmul": (((2, 3, 4), (2, 4, 5)), lambda: product(torch.matmul, (2, 3, 4), (2, 4, 5), terms=4)),
}  # fmt: skip


@pytest.mark.parametrize("width", [1e-6, 0.1, 3.0, 40.0])
@pytest.mark.parametrize("name", STEPS)
def test_intervals_and_planes_hold_at_all_points_of_a_box(name: str, width: float) -> None:
    shapes, made = STEPS[name]
    step, function = made()
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    for _ in range(8):
        low = [(draw(1, *shape) - 0.5) * 4 for shape in shapes]
        low = [torch.where(draw(*x.shape) < 0.2, torch.zeros_like(x), x) for x in low]
        high = [x + width * draw(*x.shape) * (draw(*x.shape) < 0.8) for x in low]
        given = [Interval(*ends) for ends in zip(low, high, strict=True)]
        found = step.interval(given, region(low[0], torch.zeros(1), "linf", (-100.0, 100.0)))
        rows = torch.cat([torch.eye(12, dtype=torch.float64), -torch.eye(12, dtype=torch.float64), draw(6, 12) - 0.5])
        rows = rows[:, : int(torch.Size(step.shape).numel())] if len(step.shape) < 3 else draw(30, 30) - 0.5
        pulled = step.pull(Rows(rows.view(1, len(rows), *step.shape)), step.relax(given))
        shares = [torch.cat([draw(60, *x.shape[1:]), draw(60, *x.shape[1:]).round()]) for x in low]
        points = [a + share * (b - a) for a, b, share in zip(low, high, shares, strict=True)]
        y = function(*points)
        assert bool(((found.lower <= y) & (y <= found.upper)).all())
        plane = torch.as_tensor(pulled.constant).expand(1, len(rows)).clone()
        for part, x in zip(pulled.rows, points, strict=True):
            assert part is not None
            plane = plane + x.flatten(1) @ part.a[0].flatten(1).T
        exact, size = y.flatten(1) @ rows.T, 1 + plane.abs().amax()
        assert bool((plane <= exact + ROUND * size).all())
        gap = (exact - plane).amax()
        assert width > 1e-6 or float(gap) < 1e-6, "in a small box both planes are near"


class Attention(nn.Module):
    """Attention over the rows of a picture, written in one of several ways."""

    def __init__(self, kind: str, width: int = 6, heads: int = 2) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.multihead = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        if self.kind == "multihead":
            return x + self.multihead(normed, normed, normed, need_weights=False)[0]
        n, rows, width = x.shape
        split = self.project(normed).reshape(n, rows, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        if self.kind == "fused":
            found = functional.scaled_dot_product_attention(query, key, value)
        elif self.kind == "masked":  # as transformers writes it: a mask of its own for every image, which hides nothing
            mask = (torch.arange(rows) >= 0).expand(n, 1, rows, rows)
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        elif self.kind == "matmul":
            found = ((query @ key.transpose(-2, -1)) * 0.6).softmax(-1) @ value
        else:
            weights = torch.einsum("nhid,nhjd->nhij", query, key).softmax(-1)
            found = torch.einsum("nhij,nhjd->nhid", weights, value)
        return x + found.transpose(1, 2).reshape(n, rows, width)


class Gated(nn.Module):
    """A picture times one number a channel, which depends on it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).tanh()


def network(name: str) -> nn.Module:
    if name in ("multihead", "fused", "masked", "matmul", "einsum"):
        tokens = nn.Sequential(nn.Flatten(2), nn.Linear(25, 6), Attention(name), nn.GELU())
        return nn.Sequential(tokens, nn.Flatten(), nn.Linear(12, 4))
    layers: dict[str, list[nn.Module]] = {
        "group norm": [nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)],
        "instance norm": [nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Flatten(), nn.Linear(36, 4)],
        "rms norm": [nn.Flatten(), nn.Linear(50, 8), nn.RMSNorm(8, eps=1e-3), nn.Linear(8, 4)],
        "softmax": [nn.Flatten(), nn.Linear(50, 6), nn.Softmax(1), nn.Linear(6, 4)],
        "gated": [nn.Conv2d(2, 4, 3), Gated(), nn.Flatten(), nn.Linear(36, 4)],
    }
    return nn.Sequential(*layers[name])


@pytest.mark.parametrize(
    "name",
    ["multihead", "fused", "masked", "matmul", "einsum", "group norm", "instance norm", "rms norm", "softmax", "gated"],
)
def test_nothing_that_is_found_is_below_the_bounds_of_a_network(name: str) -> None:
    torch.manual_seed(5)
    module = network(name).eval()
    for parameter in module.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.7)
    model = from_module(module, (2, 5, 5), 4)
    compiled, x, rows = program(model).exact, torch.rand(2, 2, 5, 5), differences(4)
    with torch.no_grad():
        exact = module.double()(x.double()) @ rows.T
    for norm, eps in BALLS:
        for share in (1e-5, 0.03, 1.0):
            found = smallest(module, x, norm, eps * share, rows, 0, tries=12)
            for mode in MODES:
                lower = bounds(compiled, x, norm, eps * share, rows, mode)
                assert bool((lower <= found + ROUND).all()), (norm, share, mode)
                assert share > 1e-5 or bool((exact - lower < 1e-2).all()), (norm, mode)


class Causal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, is_causal=True).flatten(1)


class Hidden(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mask = (torch.arange(x.shape[1]) >= 1).expand(x.shape[0], x.shape[1], x.shape[1])
        return functional.scaled_dot_product_attention(x, x, x, attn_mask=mask).flatten(1)


class Moved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.transpose(0, 1) + torch.ones(5, 1, 3)).transpose(0, 1).flatten(1)


@pytest.mark.parametrize(
    ("module", "said"),
    [(Causal(), "it has a mask"), (Hidden(), "it has a mask"), (Moved(), "not along the first axis")],
)
def test_what_is_not_understood_is_refused_by_name(module: nn.Module, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        program(from_module(module, (5, 3), 15))
