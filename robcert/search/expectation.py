"""Expectation over transformation (Athalye et al. 2018): a random network, answered by the mean of several draws."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from robcert.types import LoadedModel


class Averaged(nn.Module):
    """The mean of the logits over ``draws`` calls; its gradient is the mean of their gradients."""

    def __init__(self, module: nn.Module, draws: int) -> None:
        super().__init__()
        self.module, self.draws = module, draws

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) of points (n, *shape)."""
        return torch.stack([self.module(x) for _ in range(self.draws)]).mean(dim=0)


def averaged(model: LoadedModel, draws: int) -> LoadedModel:
    """Return the model, or for more than one draw the mean over them: search and verification both see that network."""
    return model if draws == 1 else replace(model, module=Averaged(model.module, draws).eval())


def draws_of(module: nn.Module) -> int:
    """Return the number of calls of the network in one call of the module."""
    return module.draws if isinstance(module, Averaged) else 1


def single_draw(model: LoadedModel) -> LoadedModel:
    """Return the model under an average, as it was loaded."""
    return replace(model, module=model.module.module) if isinstance(model.module, Averaged) else model
