"""The normalisation of the input as part of the network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robcert.errors import UsageError
from robcert.network.card import normalization_fault


class Normalize(nn.Module):
    """(scale x - mean) / std, per channel.

    Args:
        mean: one value a channel, or one for all.
        std: one value a channel, or one for all.
        dims: the number of axes of one image, channels first.
        scale: in which unit mean and std are: 255 for bytes.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], dims: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.mean: Tensor
        self.std: Tensor
        trailing = (1,) * (dims - 1)
        self.register_buffer("mean", torch.tensor(tuple(mean), dtype=torch.float32).reshape(-1, *trailing))
        self.register_buffer("std", torch.tensor(tuple(std), dtype=torch.float32).reshape(-1, *trailing))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, *) -> (n, c, *)."""
        return ((x if self.scale == 1 else x * self.scale) - self.mean) / self.std


def check_normalization(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Refuse values that are none.

    Raises:
        UsageError: a mean that is not finite, or a std that is not positive and finite.
    """
    if fault := normalization_fault(mean, std):
        raise UsageError(fault, "They are what the images were normalised with in training, e.g. --mean 0.5 --std 0.25")


def with_normalization(
    module: nn.Module,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    shape: tuple[int, ...],
    scale: float | None = None,
) -> nn.Module:
    """Return the network that takes images in the box: ``module`` behind a `Normalize`, or ``module`` itself.

    Raises:
        UsageError: the number of values is neither one nor the number of channels; a std that is not
            positive.
    """
    if mean is None and std is None:
        return module
    mean, std = tuple(mean or (0.0,)), tuple(std or (1.0,))
    for kind, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, shape[0]):
            raise UsageError(
                f"{kind} has {len(values)} values, but an image of shape {shape} has {shape[0]} channels",
                f"Give one value, or {shape[0]} separated by commas.",
            )
    check_normalization(mean, std)
    normalize = Normalize(mean, std, len(shape), scale or 1.0)
    return nn.Sequential(OrderedDict([("normalize", normalize), ("network", module)])).eval()
