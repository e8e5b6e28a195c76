"""What a run proves before it attacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.certify import Certificates, Search, certificates
from robcert.engine.verifier import Verified, Verifier
from robcert.engine.witnesses import Found, Witnesses
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


@dataclass(frozen=True)
class Examples:
    """Adversarial examples that a certificate came upon (branch and bound), verified like all others.

    Attributes:
        rows: positions of their images.
        verified: what the verifier says of them, in that order; None where there are none.
        distance: (n,) float64 of every image, infinite where there is no accepted example.
    """

    rows: list[int]
    verified: Verified | None
    distance: Tensor

    def offer(self, witnesses: Witnesses, method: str) -> None:
        """Keep them, as found by that certificate."""
        if self.verified is not None:
            for k, position in enumerate(self.rows):
                witnesses.offer(position, k, self.verified, Found(method, 0, 0, 0, int(self.verified.label[k])))


def come_upon(proof: Proof, model: LoadedModel, data: Dataset, threat: Threat, slots: int) -> Examples:
    """Verify the examples of a certificate."""
    distance = torch.full((len(data),), float("inf"), dtype=torch.float64)
    examples = None if proof.certificates is None else proof.certificates.examples
    rows = [] if examples is None else torch.isfinite(examples.flatten(1)).all(dim=1).nonzero().flatten().tolist()
    if examples is None or not rows:
        return Examples([], None, distance)
    at = torch.tensor(rows, device=data.x.device)
    verified = Verifier(model, threat, slots)(examples[rows].to(data.x.device), data.x[at], data.y[at])
    distance[rows] = torch.where(verified.accepted, verified.distance, torch.inf).cpu()
    return Examples(rows, verified, distance)
