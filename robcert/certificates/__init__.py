"""Certificates; one file a method, each registered by its decorator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from robcert.registry import Registry
from robcert.types import BoundNorm, LoadedModel


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
        refused: why nothing is claimed about the executed network, where that is so: then every ``radius`` is 0, and
            ``radius_real`` stands.
        alone: the same of every method that took part, by name, where there are several.
        gained: by the same names, how many images the method was the first to certify, at each budget of the search.
        examples: (n, *shape) float32, inputs that the method says are answered wrongly; NaN where it has none.
        confidence: of every single radius; None for a proof. A radius with a confidence speaks of the smoothed
            classifier, not of the network.
    """

    method: str
    norm: BoundNorm
    radius: Tensor
    radius_real: Tensor
    gap: Tensor
    prediction: Tensor
    binding: tuple[str, ...]
    constants: dict[str, float]
    seconds: float
    refused: str = ""
    alone: dict[str, Certificates] = field(default_factory=dict[str, "Certificates"])
    gained: dict[str, tuple[int, ...]] = field(default_factory=dict[str, "tuple[int, ...]"])
    examples: Tensor | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Search:
    """What is asked of methods that test one radius at a time.

    Attributes:
        eps: budgets that have to be decided, ascending; a radius is then above, or not above, each of them.
        largest: look for the largest radius as well (bisection); without it radii stop at the largest certified budget.
        tolerance: relative width at which the bisection ends.
        above: (n,) distances of known adversarial examples, from where on no radius is tried.
        below: (n,) radii that are certified already; nothing smaller is tried.
        seconds: for each image, on average; None is no limit. What is not decided by then has no certificate.
        seed: of samples.
        first: the position of the first image in its data set, with which its samples are drawn.
        options: of single methods ("sigma", "samples", "confidence").
    """

    eps: tuple[float, ...] = ()
    largest: bool = True
    tolerance: float = 0.01
    above: Tensor | None = None
    below: Tensor | None = None
    seconds: float | None = None
    seed: int = 0
    first: int = 0
    options: Mapping[str, float] = field(default_factory=dict[str, float])


class Method(Protocol):
    """A way to certify; ``search`` is None where nothing is asked in particular."""

    def __call__(
        self, model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None, /
    ) -> Certificates:
        """Certify x (n, *shape) with labels y (n,)."""
        ...


certificates: Registry[Method] = Registry("certificate", "robcert.certificates")
"""Functions (model, x (n, *shape), y (n,), norm, search) -> `Certificates`."""

certificate = certificates.register


def round_down(radius: Tensor) -> Tensor:
    """The next smaller float64, and never below 0."""
    return torch.nextafter(radius, torch.full_like(radius, -1.0)).clamp_min(0.0)
