"""Small recipes, options for every objective and regulariser, and a regulariser that uses every hook."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from robcert.training import Recipe
from robcert.training.context import TrainingContext
from robcert.training.regularisers import Regulariser, RegulariserTable, regulariser

OBJECTIVES: dict[str, dict[str, Any]] = {
    "cross_entropy": {"name": "cross_entropy", "label_smoothing": 0.1},
    "adversarial": {"name": "adversarial", "norm": "l2", "eps": 0.2, "steps": 2, "step": 0.5, "warm_up": 0.5},
    "certified_margin": {"name": "certified_margin", "offset": 0.5, "radius": 0.4},
    "ibp": {"name": "ibp", "eps": 0.1, "warm_up": 0.1, "ramp": 0.6},
    "l2nnn": {"name": "l2nnn", "v": 10.0, "switch_epoch": 2},
    "l2nnn-adversary": {
        "name": "l2nnn",
        "v": 10.0,
        "trainable_v": True,
        "switch_epoch": 2,
        "adversary": {"norm": "linf", "eps": 0.05, "steps": 2, "step": 0.5, "warm_up": 0.5, "terms": "a"},
    },
}
REGULARISERS: dict[str, dict[str, Any]] = {
    "clip_singular_values": {"name": "clip_singular_values", "largest": 0.5, "every": 4},
    "towards_average": {"name": "towards_average", "share": 0.1},
}


def tiny(kind: str = "cross_entropy", **changes: Any) -> Recipe:
    """Return a recipe of four epochs for one of `OBJECTIVES`."""
    architecture: dict[str, Any] = {"name": "mlp", "options": {"hidden": [32]}}
    if kind.startswith("l2nnn"):
        architecture = {"name": "l2nnn", "options": {"channels": [4], "hidden": [16]}}
    optimiser: dict[str, Any] = {"learning_rate": 1e-2}
    if kind == "certified_margin":
        architecture = {"name": "orthogonal", "options": {"hidden": [32]}}
        optimiser = {"name": "stiefel-muon", "learning_rate": 0.05, "schedule": "cosine", "rise": 0.1}
    fields: dict[str, Any] = {
        "name": "tiny",
        "epochs": 4,
        "batch": 64,
        "threads": 1,
        "architecture": architecture,
        "objective": OBJECTIVES[kind],
        "optimiser": optimiser,
        "augmentation": {"shift": 1, "noise": 0.05},
    }
    return Recipe.model_validate({**fields, **changes})


@regulariser("towards_average")
class TowardsAverage(RegulariserTable):
    """Weights are pulled towards their moving average; for the tests of the hooks.

    Attributes:
        share: of the way to the average, in each step.
    """

    name: Literal["towards_average"]
    share: float

    def build(self) -> Regulariser:
        return _TowardsAverage(self.share)


class _TowardsAverage(Regulariser):
    def __init__(self, share: float) -> None:
        self.share = share
        self.average: list[Tensor] = []
        self.steps: list[int] = []
        self.calls: list[str] = []

    def prepare(self, net: nn.Module, context: TrainingContext) -> None:
        assert context.num_classes == 10
        self.calls.append("prepare")
        self.average = [torch.zeros_like(parameter) for parameter in net.parameters()]

    def before(self, net: nn.Module) -> None:
        self.calls.append("before")
        with torch.no_grad():
            for average, parameter in zip(self.average, net.parameters(), strict=True):
                average.lerp_(parameter, 0.2)

    def gradients(self, net: nn.Module) -> None:
        self.calls.append("gradients")
        for average, parameter in zip(self.average, net.parameters(), strict=True):
            if parameter.grad is not None:
                parameter.grad += self.share * (parameter.detach() - average)

    def after(self, net: nn.Module, step: int) -> None:
        self.calls.append("after")
        self.steps.append(step)
        for average, parameter in zip(self.average, net.parameters(), strict=True):
            parameter.lerp_(average, self.share / step)

    def state(self) -> dict[str, Any]:
        return {"average": self.average, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        self.average, self.steps = state["average"], state["steps"]

    def finish(self, net: nn.Module) -> None:
        self.calls.append("finish")
