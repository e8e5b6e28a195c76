"""Small networks, and the distances that attacks reach on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from toys import run_leg

from robcert.types import BoundNorm, LoadedModel, Threat


def attack(model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, eps: float, name: str, iterations: int) -> Tensor:
    """Distances that an attack reaches with the goal "minimize"."""
    return run_leg(model, x, y, Threat(norm, (eps,), model.box), name, "minimize", iterations, slots=64)[0].distance


def small_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    kind = seed % 4
    if kind == 0:
        return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    if kind == 1:
        return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.LeakyReLU(0.2), nn.Linear(8, 4))
    if kind == 2:
        return nn.Sequential(
            nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 4, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)
        )
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(12, 4),
    )  # fmt: skip
