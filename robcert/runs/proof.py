"""What a run proves before it attacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.certify import Certificates, Search, certificates
from robcert.errors import EvaluationError
from robcert.types import Dataset, LoadedModel, Threat

SECONDS = 5.0
"""For each image, on average, where a method looks for radii one by one."""


@dataclass(frozen=True)
class Proof:
    """Certified radii of a run.

    Attributes:
        method: the certificate that was asked for.
        radius: (n,) float64, of the executed network; 0 where nothing is proven.
        certificates: all of it, or None where there is none.
        refused: why nothing is proven about the executed network, though it was asked for.
    """

    method: str
    radius: Tensor
    certificates: Certificates | None = None
    refused: str = ""


def prove(method: str, model: LoadedModel, data: Dataset, threat: Threat) -> Proof:
    """Certify the images of a run at its budgets; a network that the certificate does not support is no error here."""
    nothing = torch.zeros(len(data), dtype=torch.float64)
    if method == "none":
        return Proof(method, nothing)
    try:
        found = certificates.get(method)(
            model, data.x, data.y, threat.norm, Search(eps=threat.eps, largest=False, seconds=SECONDS)
        )
    except EvaluationError as error:
        return Proof(method, nothing, refused=error.found)
    return Proof(method, found.radius, found, found.refused)
