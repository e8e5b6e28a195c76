"""Certificates; one file a method, each registered by its decorator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from robcert.bracket import Evidence, join_evidence
from robcert.certificates.effort import Effort, join_effort
from robcert.registry import Registry
from robcert.types import BoundNorm, LoadedModel


@dataclass(frozen=True)
class Certificates:
    """The radii that a method proves of n images.

    Attributes:
        method: the name of the certificate.
        norm: of the perturbation.
        radius: (n,) float64, rounded down: the executed float32 network answers the label on the open ball of that
            radius, intersected with the box. 0 where it is wrong, or where the logits tie.
        radius_real: (n,) float64, the same for the network in real arithmetic.
        gap: (n,) float64, the confidence gap: the largest logit less the second largest.
        prediction: (n,) int64, the answer of the executed network.
        binding: for every image, which constant L_ij was the smallest ("" where the image is wrong).
        seconds: what it took, on the clock.
        evidence: what the radii rest on, beside the network.
        refused: why nothing is claimed about the executed network, where that is so: then every ``radius`` is 0, and
            ``radius_real`` stands.
        examples: (n, *shape) float32, inputs that the method says are answered wrongly; NaN where it has none.
        effort: of each image, for a method that looks for radii one by one.
    """

    method: str
    norm: BoundNorm
    radius: Tensor
    radius_real: Tensor
    gap: Tensor
    prediction: Tensor
    binding: tuple[str, ...]
    seconds: float
    evidence: Evidence = field(default_factory=Evidence)
    refused: str = ""
    examples: Tensor | None = None
    effort: Effort | None = None

    @property
    def constants(self) -> dict[str, float]:
        """The numbers of the evidence by name."""
        return self.evidence.constants


@dataclass(frozen=True)
class Search:
    """The question to methods that test one radius at a time.

    Attributes:
        eps: budgets that have to be decided, ascending; a radius is then above, or not above, each of them.
        largest: look for the largest radius as well (bisection); without it radii stop at the largest certified budget.
        tolerance: relative width at which the bisection ends.
        above: (n,) distances of known adversarial examples, from where on no radius is tried.
        below: (n,) radii that are certified already; nothing smaller is tried.
        seconds: CPU seconds for each image, never an average; None is no limit. What is not decided by then has no
            certificate.
        spent: (n,) CPU seconds that earlier methods took of them.
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
    spent: Tensor | None = None
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


def _always(model: LoadedModel, norm: BoundNorm, search: Search) -> bool:
    return True


@dataclass(frozen=True)
class Certifier:
    """A method as it is registered; called like the function that it is made of.

    Attributes:
        function: (model, x (n, *shape), y (n,), norm, search) -> `Certificates`.
        evidence: the type of its evidence.
        cost: its place in the ladder of `best`, cheap methods first; None for a method that is not part of it.
        suits: whether `best` tries it on a network, in a norm.
        closed_form: its radius has a closed form, so that no search ends at the largest budget.
        probabilistic: each radius holds with a probability, and for another classifier: it is no end of a bracket.
    """

    function: Method
    evidence: type[Evidence] = Evidence
    cost: float | None = None
    suits: Callable[[LoadedModel, BoundNorm, Search], bool] = _always
    closed_form: bool = False
    probabilistic: bool = False

    def __call__(
        self, model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
    ) -> Certificates:
        """Certify x (n, *shape) with labels y (n,)."""
        return self.function(model, x, y, norm, search)


certificates: Registry[Certifier] = Registry("certificate", "robcert.certificates")


def certificate(
    name: str,
    *,
    evidence: type[Evidence] = Evidence,
    cost: float | None = None,
    suits: Callable[[LoadedModel, BoundNorm, Search], bool] = _always,
    closed_form: bool = False,
    probabilistic: bool = False,
) -> Callable[[Method], Certifier]:
    """Decorator that registers a method; the arguments are those of `Certifier`."""

    def keep(function: Method) -> Certifier:
        return certificates.register(name)(
            Certifier(function, evidence, cost, suits, closed_form=closed_form, probabilistic=probabilistic)
        )

    return keep


def round_down(radius: Tensor) -> Tensor:
    """Return the next smaller float64, and never below 0."""
    return torch.nextafter(radius, torch.full_like(radius, -1.0)).clamp_min(0.0)


def join(parts: Sequence[Certificates]) -> Certificates:
    """Return the certificates of all images from those of their parts by one method, in order."""
    refused = next((part.refused for part in parts if part.refused), "")
    radius = torch.cat([part.radius for part in parts])
    efforts = [part.effort for part in parts if part.effort is not None]
    return Certificates(
        method=parts[0].method,
        norm=parts[0].norm,
        radius=torch.zeros_like(radius) if refused else radius,
        radius_real=torch.cat([part.radius_real for part in parts]),
        gap=torch.cat([part.gap for part in parts]),
        prediction=torch.cat([part.prediction for part in parts]),
        binding=tuple(kind for part in parts for kind in part.binding),
        seconds=sum(part.seconds for part in parts),
        evidence=join_evidence([part.evidence for part in parts]),
        refused=refused,
        effort=join_effort(efforts) if len(efforts) == len(parts) else None,
    )
