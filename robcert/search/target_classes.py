"""The classes that targeted attacks aim at: the wrong ones of an image, the most likely first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robcert.attacks.common.targets import rank_target_classes
from robcert.network.batching import logits_of
from robcert.types import Batch


class TargetClasses:
    """Ranked when an image is first asked for.

    Args:
        module: the network.
        images: all images of the run.
        draws: calls of a random network that one call of it is.

    Attributes:
        counted: the images whose forward is booked: here, before an interruption, or by the worker that had them.
    """

    def __init__(self, module: nn.Module, images: Batch, draws: int = 1) -> None:
        self.module, self.images, self.draws = module, images, draws
        self.counted: set[int] = set()
        self._ranks: dict[int, Tensor] = {}

    def __call__(self, positions: list[int], slots: int) -> tuple[Tensor, int]:
        """Return the wrong classes (n, classes - 1) of the images at these positions, and the forwards to book."""
        new = sorted(set(positions) - set(self._ranks))
        if new:
            logits = logits_of(self.module, self.images.x[new], slots)
            self._ranks |= dict(zip(new, rank_target_classes(logits, self.images.y[new]), strict=True))
        forwards = self.draws * len(set(new) - self.counted)
        self.counted |= set(new)
        return torch.stack([self._ranks[position] for position in positions]), forwards
