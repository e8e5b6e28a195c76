"""Batch shapes: the same image gets the same logits whoever else is in the batch.

Matrix kernels choose their blocking by the number of rows, so logits of one image can differ in the last bits
between batch sizes. Rows that come in multiples of eight met no such difference on most machines this was tried on
(on some a product of 16 rows adds in another order than one of 8), so every call of a model is padded to a multiple
of eight rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST = 8
_ENTRIES = 128 * 3 * 32 * 32  # a batch of 128 CIFAR images; larger images get smaller batches


def default_slots(entries: int, limit: int = 128) -> int:
    """Return the number of images that an attack holds at once, for inputs of so many entries."""
    return power_of_two(max(1, min(limit, _ENTRIES // max(entries, 1))), limit)


def power_of_two(count: int, limit: int) -> int:
    """Return the smallest of 8, 16, 32, ... that holds ``count`` images, at most the largest such up to ``limit``."""
    size = SMALLEST
    while size < count and size * 2 <= max(limit, SMALLEST):
        size *= 2
    return size


def multiple_of_eight(count: int, limit: int) -> int:
    """Return the smallest multiple of 8 that holds ``count`` images, at most the largest such up to ``limit``."""
    return max(SMALLEST, min(-(-count // SMALLEST), limit // SMALLEST) * SMALLEST)


def padded(x: Tensor, rows: int) -> Tensor:
    """Return ``x`` (n, *shape) followed by copies of its last row, up to ``rows`` rows."""
    missing = rows - x.shape[0]
    return x if missing <= 0 else torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])


@torch.no_grad()
def logits_of(module: nn.Module, x: Tensor, slots: int) -> Tensor:
    """Return logits (n, classes) of any number of images, in padded batches of at most ``slots``."""
    parts: list[Tensor] = []
    for chunk in x.split(slots) if len(x) else ():
        rows = multiple_of_eight(chunk.shape[0], slots)
        parts.append(module(padded(chunk, rows))[: chunk.shape[0]])
    return torch.cat(parts) if parts else module(torch.zeros(SMALLEST, *x.shape[1:], device=x.device))[:0]
