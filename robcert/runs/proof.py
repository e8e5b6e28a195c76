"""What a run certifies before it attacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robcert.bracket import Bracket, Certificate, Provenance
from robcert.certificates import Certificates, Search, certificates
from robcert.errors import EvaluationError, UsageError
from robcert.search.verifier import Verifier
from robcert.types import Dataset, LoadedModel, Threat, bound_norm

SECONDS = 5.0
"""For each image, on average, where a method looks for radii one by one."""


@dataclass(frozen=True)
class Attempt:
    """How the certificate of a run went; what it says of single images is in their bracket.

    Attributes:
        method: the certificate that was asked for.
        found: all that it returned, or None where nothing was asked for or the network is not supported.
        refused: why nothing is proven about the executed network, though it was asked for.
    """

    method: str
    found: Certificates | None = None
    refused: str = ""


def prove(method: str, model: LoadedModel, data: Dataset, threat: Threat, bracket: Bracket) -> Attempt:
    """Certify the images of a run at its budgets, into their bracket.

    A network that the certificate does not support is no error here.
    """
    if method == "none":
        return Attempt(method)
    try:
        norm = bound_norm(threat.norm)
    except UsageError as error:
        return Attempt(method, refused=error.found)
    try:
        search = Search(eps=threat.eps, largest=False, seconds=SECONDS)
        found = certificates.get(method)(model, data.x, data.y, norm, search)
    except EvaluationError as error:
        return Attempt(method, refused=error.found)
    each = zip(found.radius.tolist(), found.radius_real.tolist(), found.binding, strict=True)
    for position, (radius, real, binding) in enumerate(each):
        bracket.update(position, Certificate(radius, real, found.method, binding, found.evidence))
    return Attempt(method, found, found.refused)


def verify_counterexamples(
    attempt: Attempt, model: LoadedModel, data: Dataset, threat: Threat, bracket: Bracket, slots: int
) -> None:
    """Verify inputs that a certificate (branch and bound) found answered wrongly, like all others, into a bracket."""
    examples = None if attempt.found is None else attempt.found.examples
    rows = [] if examples is None else torch.isfinite(examples.flatten(1)).all(dim=1).nonzero().flatten().tolist()
    if examples is None or not rows:
        return
    at = torch.tensor(rows, device=data.x.device)
    verified = Verifier(model, threat, slots)(examples[rows].to(data.x.device), data.x[at], data.y[at])
    for k, position in enumerate(rows):
        verified.offer(k, bracket, position, Provenance(attempt.method, 0, 0, 0))
