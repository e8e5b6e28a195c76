"""Norms of perturbations, one number an image."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.types import Norm

_ORDER: dict[Norm, float] = {"l2": 2.0, "linf": float("inf"), "l1": 1.0}
_DUAL: dict[Norm, Norm] = {"l2": "l2", "linf": "l1", "l1": "linf"}


def dual(norm: Norm) -> Norm:
    """The dual norm: l2 of l2, l1 of linf, linf of l1."""
    return _DUAL[norm]


def vector_norm(x: Tensor, norm: Norm) -> Tensor:
    """The norm of every image.

    Args:
        x: (n, *shape).
        norm: which norm.

    Returns:
        (n,), in the dtype of ``x``.
    """
    return torch.linalg.vector_norm(x.flatten(1), _ORDER[norm], dim=1)


def distance(x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """How far every image of ``x`` is from that of ``y``, measured in float64: (n,) float64."""
    return vector_norm(x.double() - y.double(), norm)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (n,) so that it broadcasts over (n, *shape)."""
    return values.view(-1, *([1] * (like.dim() - 1)))
