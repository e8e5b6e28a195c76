"""The sides of the squares over 5,000 queries of MNIST images: in linf as AutoAttack has them where it rescales."""

from __future__ import annotations

import pytest
import torch

from robcert.attacks.square import Square
from robcert.types import ThreatNorm

AT = (0, 5, 6, 25, 26, 100, 101, 250, 251, 500, 501, 1000, 1001, 2000, 2001, 3000, 3001, 4000, 4001, 4999)


@pytest.mark.parametrize(
    ("norm", "sides"),
    [
        # sqrt(0.8 * 784 / 2^k), rounded, for k = 0 ... 9
        ("linf", [25, 25, 18, 18, 13, 13, 9, 9, 6, 6, 4, 4, 3, 3, 2, 2, 2, 2, 1, 1]),
        # k = 0 ... 8: the paper does not halve at 500 of 10,000
        ("l2", [25, 25, 18, 18, 13, 13, 9, 9, 9, 9, 6, 6, 4, 4, 3, 3, 2, 2, 2, 2]),
    ],
)
def test_the_squares_shrink(norm: ThreatNorm, sides: list[int]) -> None:
    attack = Square(iterations=5000)
    found = attack._side(torch.tensor(AT, dtype=torch.float32), (1, 28, 28), norm)  # pyright: ignore[reportPrivateUsage]
    assert found.tolist() == sides


@pytest.mark.parametrize(("shape", "most"), [((1, 8, 8), 7), ((1, 1, 64), 51), ((3, 2, 2), 1)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_square_is_smaller_than_the_image(norm: ThreatNorm, shape: tuple[int, int, int], most: int) -> None:
    sides = Square()._side(torch.arange(5000.0), shape, norm)  # pyright: ignore[reportPrivateUsage]
    assert 1 <= int(sides.min()) <= int(sides.max()) == most
