"""The way back from an example to its clean image ends at the boundary, and takes few looks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import toy

from robcert.search.line_search import towards_clean
from robcert.search.verifier import Verifier
from robcert.types import Threat


class Wall(nn.Module):
    """Class 1 where the first entry is above a height, class 0 below; its margin is a function of what is above."""

    def __init__(self, height: float, shape: Callable[[Tensor], Tensor] = lambda above: above) -> None:
        super().__init__()
        self.height, self.shape = height, shape
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 2) of points (n, 3)."""
        self.asked += len(x)
        above = self.shape(x[:, :1] - self.height)
        return torch.cat([-above, above], dim=1)


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda above: above,
    "step": torch.sign,
    "saturated": lambda above: torch.tanh(1e3 * above),
    "bent": lambda above: above**3 + above,
    "steep where it is right": lambda above: torch.where(above > 0, 1e-3 * above, above),
    "steep where it is wrong": lambda above: torch.where(above > 0, above, 1e-3 * above),
    "falling again": lambda above: above * torch.exp(-above),
}


@settings(max_examples=200, deadline=None)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=9),
    least=st.sampled_from([2**-4, 2**-8]),
)
def test_a_found_point_moves_to_the_wall(shape: str, shares: list[float], least: float) -> None:
    """The wall stands at 0.4, between the clean images at 0 and points at any distance behind it."""
    wall = Wall(0.4 + 2**-20, SHAPES[shape])
    verifier = Verifier(toy(wall, (3,), 2), Threat("linf", (1.0,), (0.0, 50.0)), 128)
    x, y = torch.zeros(len(shares), 3), torch.zeros(len(shares), dtype=torch.int64)
    candidates = x.clone()
    candidates[:, 0] = 0.4001 / torch.tensor(shares)
    found = verifier(candidates, x, y)
    assert bool(found.accepted.all())
    closer = towards_clean(verifier, found, x, y, least)
    assert bool(closer.accepted.all())
    assert bool((closer.distance >= 0.4).all()), "what is accepted was verified"
    # A line through two margins may err, but then by no more than the way between them, four times what it may leave.
    left = 1 if shape == "linear" else 4
    assert bool((closer.distance <= 0.4002 + left * found.distance * least).all())


@pytest.mark.parametrize(("share", "tries"), [(0.99, 2), (0.9, 2), (0.6, 3), (0.3, 3)])
def test_a_line_to_the_wall_takes_few_tries(share: float, tries: int) -> None:
    wall = Wall(0.4)
    verifier = Verifier(toy(wall, (3,), 2), Threat("linf", (1.0,), (0.0, 50.0)), 128)
    x, y = torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64)
    found = verifier(x + torch.tensor([0.4 / share, 0.0, 0.0]), x, y)
    wall.asked = 0
    assert float(towards_clean(verifier, found, x, y).distance) <= 0.4 + 2**-8 * 0.4 / share
    assert wall.asked <= 8 * tries, "a try is padded to eight images"


def test_points_at_the_wall_cost_one_try_and_refused_ones_none() -> None:
    wall = Wall(0.4)
    verifier = Verifier(toy(wall, (3,), 2), Threat("linf", (1.0,)), 128)
    x, y = torch.zeros(16, 3), torch.zeros(16, dtype=torch.int64)
    candidates = x.clone()
    candidates[:8, 0] = 0.4001
    found = verifier(candidates, x, y)
    wall.asked = 0
    closer = towards_clean(verifier, found, x, y)
    assert wall.asked == 8
    assert torch.equal(closer.distance, found.distance)
    assert closer.accepted.tolist() == [True] * 8 + [False] * 8
