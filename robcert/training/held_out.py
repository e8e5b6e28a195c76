"""Training images that are held out, and the epoch that is best on them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.data.subset import stratified_order
from robcert.errors import UsageError
from robcert.training.recipe import HeldOut
from robcert.types import Dataset

_BATCH = 500


def split(data: Dataset, table: HeldOut) -> tuple[Dataset, Dataset]:
    """Split images into those that are trained on, in their own order, and those held out, a stratified sample.

    Raises:
        UsageError: nothing would be left to train on.
    """
    if table.images >= len(data):
        raise UsageError(
            f"held_out.images is {table.images}, but there are {len(data)} training images", "Hold out fewer."
        )
    out = stratified_order(data.y, table.seed)[: table.images]
    kept = torch.ones(len(data), dtype=torch.bool)
    kept[out] = False
    first, second = (
        dataclasses.replace(data, x=data.x[chosen], y=data.y[chosen], index=data.index[chosen])
        for chosen in (kept, out)
    )
    return first, second


class BestOnHeldOut:
    """The smallest loss on the held-out images so far, its epoch and its weights.

    The loss is the mean cross-entropy of the network's logits in evaluation mode, with every objective: what an
    objective minimises may change from epoch to epoch.

    Args:
        table: of the recipe.
        data: the images held out.
        device: where the network is.
    """

    def __init__(self, table: HeldOut, data: Dataset, device: torch.device) -> None:
        self.table = table
        self.data = data
        self.device = device
        self.loss = math.inf
        self.since = 0
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def look(self, net: nn.Module, *, settled: bool) -> float:
        """Return the loss on the held-out images after an epoch; where it is ``settled`` it may be the best.

        The network is left in the mode that it was in.
        """
        training = net.training
        net.eval()
        batches = zip(self.data.x.split(_BATCH), self.data.y.split(_BATCH), strict=True)
        total = sum(
            float(functional.cross_entropy(net(x.to(self.device)).double(), y.to(self.device), reduction="sum"))
            for x, y in batches
        )
        net.train(training)
        loss = total / len(self.data)
        if settled and loss < self.loss:
            self.loss, self.since = loss, 0
            if self.table.keep == "best":
                self.weights = {key: value.detach().clone() for key, value in net.state_dict().items()}
        elif settled:
            self.since += 1
        return loss

    @property
    def exhausted(self) -> bool:
        """Return whether the patience is spent: no further epoch is to be trained."""
        return self.table.patience is not None and self.since >= self.table.patience

    def finish(self, net: nn.Module) -> None:
        """Put the weights that are kept into the network."""
        if self.weights:
            net.load_state_dict(self.weights)

    def state(self) -> dict[str, Any]:
        """Return tensors and plain values."""
        return {"loss": self.loss, "since": self.since, "weights": self.weights}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`, bit for bit."""
        self.loss, self.since, self.weights = state["loss"], state["since"], state["weights"]
