"""A small run: a linear classifier of the digits, whose verdicts take a moment."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from toys import toy

from robcert.data import load_dataset
from robcert.types import Dataset, LoadedModel, Source


class Prototypes(nn.Module):
    """Logits are scaled similarities to the class means: right for most digits."""

    def __init__(self) -> None:
        super().__init__()
        train = load_dataset("digits", split="train")
        means = torch.stack([train.x[train.y == k].flatten(1).mean(0) for k in range(10)])
        self.head = nn.Linear(64, 10)
        self.head.weight.data = 2 * means
        self.head.bias.data = -means.square().sum(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    return dataclasses.replace(
        toy(Prototypes(), (1, 8, 8), 10), name="prototypes", source=Source("prototypes", "", "memory", "1" * 64)
    )


@pytest.fixture(scope="session")
def data() -> Dataset:
    return load_dataset("digits", n=40)
