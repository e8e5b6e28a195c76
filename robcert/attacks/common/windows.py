"""Squares of images, each image with a square of its own size and place; no branch and no loop over images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.math.norms import per_image
from robcert.math.rng import SampleRng


@dataclass(frozen=True)
class Window:
    """The place and the size of a square.

    Attributes:
        inside: (n, 1, height, width) bool.
        row, column: (n, 1, height, 1) and (n, 1, 1, width) int64, counted from the square's upper left corner.
        height, width: (n, 1, 1, 1) int64.
    """

    inside: Tensor
    row: Tensor
    column: Tensor
    height: Tensor
    width: Tensor


def image_shape(x: Tensor) -> tuple[int, int, int]:
    """Return channels, height, width; an image that is no (c, h, w) is one row of one channel."""
    if x.dim() == 4:
        return int(x.shape[1]), int(x.shape[2]), int(x.shape[3])
    return 1, 1, x[0].numel()


def window(rng: SampleRng, images: Tensor, side: Tensor, tag: int) -> Window:
    """Return a square of the given side (n,) int64 at a random place; in an image of one row it is a segment."""
    height, width = images.shape[2:]
    tall, broad = side.clamp_max(height), side.clamp_max(width)
    place = rng.uniform((2,), tag)
    top = (place[:, 0] * (height - tall + 1)).long()
    left = (place[:, 1] * (width - broad + 1)).long()
    row = torch.arange(height, device=images.device).view(1, 1, -1, 1) - per_image(top, images)
    column = torch.arange(width, device=images.device).view(1, 1, 1, -1) - per_image(left, images)
    tall, broad = per_image(tall, images), per_image(broad, images)
    inside = (row >= 0) & (row < tall) & (column >= 0) & (column < broad)
    return Window(inside, row, column, tall, broad)


def bump(rng: SampleRng, at: Window, side: Tensor) -> Tensor:
    r"""Return the square attack's :math:`\eta` (eq. 2): a hill beside a valley, of length one: (n, 1, height, width).

    A hill of h by k pixels has at (r, s) the height :math:`\sum_{i=0}^{M} (n + 1 - i)^{-2}` with
    :math:`n = \lfloor h / 2 \rfloor` and :math:`M = n - \max(|r - n|, |s - \lfloor k / 2 \rfloor|)`. Hill and valley
    halve the square across or along, by chance.
    """
    across = per_image(rng.uniform((1,), 11).flatten() < 0.5, at.inside)
    split = (at.width > 1) & (across | (at.height == 1))
    length = torch.where(split, at.width, at.height)
    along = torch.where(split, at.column, at.row)
    half = (length // 2).clamp_min(1)
    valley = along >= half
    within = torch.where(valley, along - half, along)
    size = torch.where(valley, length - half, half)
    wide = torch.where(split, at.height, at.width)
    sideways = torch.where(split, at.row, at.column)
    middle = torch.maximum(wide, size) // 2
    steps = torch.maximum((within - size // 2).abs(), (sideways - wide // 2).abs()).clamp_max(middle)
    # The sum runs over (n + 1 - M)^-2 ... (n + 1)^-2 with n - M = steps: differences of partial sums of 1 / i^2.
    most = max(at.inside.shape[2:]) + 2
    count = torch.arange(most, device=side.device)
    partial = (1.0 / count.clamp_min(1).float().square() * (count > 0)).cumsum(dim=0)
    height = partial[(middle + 1).clamp_max(most - 1)] - partial[steps.clamp_max(most - 1)]
    hill = torch.where(valley, -height, height) * at.inside
    return hill / hill.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
