"""Certificates of a run, before it attacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robcert.bracket import Bracket, Certificate, Provenance
from robcert.certificates import Certificates, Search, certificates
from robcert.certificates.effort import SECONDS
from robcert.criteria.misclassified import MISCLASSIFIED
from robcert.errors import EvaluationError, UsageError
from robcert.progress import working
from robcert.search.problem import SearchProblem
from robcert.search.verifier import Verifier
from robcert.types import LoadedModel, bound_norm


@dataclass(frozen=True)
class Attempt:
    """The outcome of the certificate of a run; what it says of single images is in their bracket.

    Attributes:
        method: the certificate that was asked for.
        found: all that it returned, or None where nothing was asked for or the network is not supported.
        refused: why nothing is proven about the executed network, though it was asked for.
    """

    method: str
    found: Certificates | None = None
    refused: str = ""


def prove(method: str, model: LoadedModel, search: SearchProblem, time_per_image: float | None = SECONDS) -> Attempt:
    """Certify the images of a search at its budgets, into its bracket.

    A network that the certificate does not support is no error here.

    Args:
        method: the certificate, or "none".
        model: the network; of a random one that is averaged in ``search``, one draw.
        search: images, threat, bracket and criterion.
        time_per_image: CPU seconds for each image, where the method looks for radii one by one; None: no limit.
    """
    threat, images = search.threat, search.images
    if method == "none":
        return Attempt(method)
    if search.criterion is not MISCLASSIFIED:
        return Attempt(method, refused=f"certificates speak of wrong answers, not of {search.criterion.name!r}")
    try:
        norm = bound_norm(threat.norm)
    except UsageError as error:
        return Attempt(method, refused=error.found)
    try:
        asked = Search(eps=threat.eps, largest=False, seconds=time_per_image)
        with working(f"certificate {method}"):
            found = certificates.get(method)(model, images.x, images.y, norm, asked)
    except EvaluationError as error:
        return Attempt(method, refused=error.found)
    each = zip(found.radius.tolist(), found.radius_real.tolist(), found.binding, strict=True)
    for position, (radius, real, binding) in enumerate(each):
        search.bracket.update(position, Certificate(radius, real, found.method, binding, found.evidence))
    return Attempt(method, found, found.refused)


def verify_counterexamples(attempt: Attempt, search: SearchProblem, slots: int) -> Bracket:
    """Return a bracket of those inputs that a certificate (branch and bound) found answered wrongly, once verified."""
    bracket = Bracket(search.bracket.index, search.bracket.wrong)
    examples = None if attempt.found is None else attempt.found.examples
    rows = [] if examples is None else torch.isfinite(examples.flatten(1)).all(dim=1).nonzero().flatten().tolist()
    if examples is not None and rows:
        x, y = search.images.x[rows], search.images.y[rows]
        verified = Verifier(search.model, search.threat, slots)(examples[rows].to(x.device), x, y)
        for k, position in enumerate(rows):
            verified.offer(k, bracket, position, Provenance(attempt.method, 0, 0, 0))
    return bracket
