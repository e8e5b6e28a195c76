"""A vision transformer of two blocks, trained on the digits: it has certified radii, and no attack ends inside them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.certificates import Search, certificates
from robcert.data import load_dataset
from robcert.network import from_module
from robcert.types import BoundNorm, LoadedModel
from tests.certificates.attacked import attack


class Block(nn.Module):
    """Attention and a perceptron, each behind a normalisation and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.first(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        return x + self.perceptron(self.second(x))


class ViT(nn.Module):
    """Patches of 4x4, a class token, positions, two blocks."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 5, width))
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1) + self.positions
        return self.head(self.norm(self.blocks(tokens)[:, 0]))


@pytest.fixture(scope="module")
def trained() -> LoadedModel:
    torch.manual_seed(0)
    net, data = ViT(), load_dataset("digits", split="train")
    optimiser = torch.optim.Adam(net.parameters(), lr=0.004)
    for _ in range(250):
        rows = torch.randint(len(data), (128,))
        optimiser.zero_grad()
        functional.cross_entropy(net(data.x[rows]), data.y[rows]).backward()
        optimiser.step()
    return from_module(net.eval(), (1, 8, 8), 10)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 1e-4), ("l2", 4e-4)])
def test_most_images_have_a_certified_radius_and_pgd_never_ends_inside_it(
    trained: LoadedModel, norm: BoundNorm, eps: float
) -> None:
    data = load_dataset("digits", n=12)
    found = certificates.get("crown")(trained, data.x, data.y, norm, Search(eps=(eps,), largest=False))
    right = found.prediction == data.y
    assert not found.refused and int((found.radius > eps).sum()) >= 8
    assert bool((found.radius <= found.radius_real).all())
    distance = attack(trained, data.x, data.y, norm, 1.0, "pgd", 40)
    assert bool((distance > found.radius)[right].all())
