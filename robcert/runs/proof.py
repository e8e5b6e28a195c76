"""What a run proves before it attacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.certify import Certificates, certificates
from robcert.errors import EvaluationError
from robcert.types import Dataset, LoadedModel, Norm


@dataclass(frozen=True)
class Proof:
    """Certified radii of a run.

    Attributes:
        method: the certificate that was asked for.
        radius: (n,) float64, of the executed network; 0 where nothing is proven.
        certificates: all of it, or None where there is none.
        refused: why there is none, though it was asked for.
    """

    method: str
    radius: Tensor
    certificates: Certificates | None = None
    refused: str = ""


def prove(method: str, model: LoadedModel, data: Dataset, norm: Norm) -> Proof:
    """Certify the images of a run; a network that the certificate does not support is no error here."""
    nothing = torch.zeros(len(data), dtype=torch.float64)
    if method == "none":
        return Proof(method, nothing)
    try:
        found = certificates.get(method)(model, data.x, data.y, norm)
    except EvaluationError as error:
        return Proof(method, nothing, refused=error.found)
    return Proof(method, found.radius, found)
