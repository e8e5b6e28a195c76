"""The optimiser of a recipe and its schedule: one or two optimisers of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.overrides import TorchFunctionMode

from robcert.training.precision import multiplies_bfloat16
from robcert.training.recipe import Optimiser
from robcert.training.stiefel_muon import StiefelMuon

_OTHERS = 0.2
"""The rate of what is no matrix, beside that of the matrices that muon or stiefel-muon moves."""


class ScheduledOptimiser:
    """The optimisers of a training, each with its schedule.

    Muon makes the step of a matrix orthogonal, so that all its singular directions are trained alike. That is what
    weights need whose spectral norm is bounded: an L2-nonexpansive network reaches larger gaps in fewer epochs than
    with Adam. It is made for matrices; everything else is moved by Adam.

    Args:
        table: of the recipe.
        parameters: what is trained.
        epochs: of the whole training.
        batches: steps in each.

    Source: K. Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024 (`torch.optim.Muon`).
    """

    def __init__(self, table: Optimiser, parameters: list[nn.Parameter], epochs: int, batches: int) -> None:
        self.optimisers = _optimisers(table, parameters)
        self.native = all(multiplies_bfloat16(parameter.device) for parameter in parameters)
        self.schedules = [
            schedule for one in self.optimisers if (schedule := _schedule(table, one, epochs, batches)) is not None
        ]

    def zero_grad(self) -> None:
        """Forget the gradients, before the backward pass of a batch."""
        for one in self.optimisers:
            one.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move what is trained by its gradients."""
        arithmetic: AbstractContextManager[object] = nullcontext() if self.native else _StayFloat32()
        with arithmetic:
            for one in (*self.optimisers, *self.schedules):
                one.step()

    def finish(self) -> None:
        """Leave the matrices of `StiefelMuon` exactly orthonormal, after the last epoch."""
        for one in self.optimisers:
            if isinstance(one, StiefelMuon):
                one.finish()

    def state(self) -> list[dict[str, Any]]:
        """Return tensors and plain values."""
        return [one.state_dict() for one in (*self.optimisers, *self.schedules)]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go back to a `state`, bit for bit."""
        for one, stored in zip((*self.optimisers, *self.schedules), state, strict=True):
            one.load_state_dict(stored)


class _StayFloat32(TorchFunctionMode):
    """Turns casts to bfloat16 into copies.

    torch's Muon multiplies in bfloat16, whatever the processor: without such instructions that is most of a training.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make the call as it is, but for that cast."""
        return args[0].clone() if func is torch.Tensor.bfloat16 else func(*args, **(kwargs or {}))


def _schedule(table: Optimiser, optimiser: torch.optim.Optimizer, epochs: int, batches: int) -> LRScheduler | None:
    if table.schedule == "one_cycle":
        # The momentum is left alone: cycling it as well made no difference worth a key in the recipe.
        return OneCycleLR(
            optimiser,
            optimiser.defaults["lr"],
            total_steps=epochs * batches,
            pct_start=table.rise,
            cycle_momentum=False,
        )
    if table.schedule == "cosine":
        steps = epochs * batches
        return LambdaLR(optimiser, lambda step: _cosine((step + 1) / steps, table.rise, table.hold))
    if table.schedule == "steps":
        # Not MultiStepLR: its state holds a Counter, which a checkpoint of plain values does not read back.
        reached = [milestone * batches for milestone in table.milestones]
        return LambdaLR(optimiser, lambda step: table.factor ** sum(step >= one for one in reached))
    return None


def _cosine(done: float, rise: float, hold: float) -> float:
    """Return the rate at a share of the training, relative to the largest: linear, constant, half a cosine."""
    if done <= hold:
        return min(1.0, done / rise)
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (done - hold) / (1 - hold)))


def _optimisers(table: Optimiser, parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    rate, decay = table.learning_rate, table.weight_decay
    if table.name == "adam":
        return [torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)]
    if table.name == "sgd":
        nesterov = table.momentum > 0
        return [torch.optim.SGD(parameters, lr=rate, momentum=table.momentum, nesterov=nesterov, weight_decay=decay)]
    matrices = [parameter for parameter in parameters if parameter.dim() == 2]
    others = [parameter for parameter in parameters if parameter.dim() != 2]
    found: list[torch.optim.Optimizer] = []
    if matrices and table.name == "stiefel-muon":
        found.append(StiefelMuon(matrices, lr=rate, momentum=table.momentum))
    elif matrices:
        found.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay))
    if others:
        found.append(torch.optim.AdamW(others, lr=_OTHERS * rate, weight_decay=decay))
    return found
