"""The training around an objective or a regulariser."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TrainingContext:
    """The training around an objective or a regulariser.

    Attributes:
        num_classes: of the network.
        epochs: of the whole training.
        box: the smallest and the largest value of an entry of an image.
        device: where the network is.
        generator: of order, augmentation and random starts, on the CPU; its state is kept with the checkpoint.
        input_shape: of one image.
        batches: steps in each epoch.
    """

    num_classes: int
    epochs: int
    box: tuple[float, float]
    device: torch.device
    generator: torch.Generator
    input_shape: tuple[int, ...]
    batches: int = 1
