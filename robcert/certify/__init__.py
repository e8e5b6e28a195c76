"""Certificates; one file a method, each registered by its decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.registry import Registry
from robcert.types import LoadedModel, Norm


@dataclass(frozen=True)
class Certificates:
    """What a method proves about n images.

    Attributes:
        method: the name of the certificate.
        norm: of the perturbation.
        radius: (n,) float64, rounded down: the executed float32 network answers the label on the open ball of that
            radius, intersected with the box. 0 where it is wrong, or where the logits tie.
        radius_real: (n,) float64, the same for the network in real arithmetic.
        gap: (n,) float64, the confidence gap: the largest logit less the second largest.
        prediction: (n,) int64, the answer of the executed network.
        binding: for every image, which constant L_ij was the smallest ("" where the image is wrong).
        constants: numbers that the proof rests on, by name.
        seconds: what it took.
    """

    method: str
    norm: Norm
    radius: Tensor
    radius_real: Tensor
    gap: Tensor
    prediction: Tensor
    binding: tuple[str, ...]
    constants: dict[str, float]
    seconds: float


Method = Callable[[LoadedModel, Tensor, Tensor, Norm], Certificates]

certificates: Registry[Method] = Registry("certificate", "robcert.certify")
"""Functions (model, x (n, *shape), y (n,), norm) -> `Certificates`."""

certificate = certificates.register


def round_down(radius: Tensor) -> Tensor:
    """The next smaller float64, and never below 0."""
    return torch.nextafter(radius, torch.full_like(radius, -1.0)).clamp_min(0.0)
