r"""Confidence-gap certificates from Lipschitz bounds (paper A, lemmas 1 and 6; last-layer constants).

A difference of logits moves by at most :math:`L_{ij} \|x' - x\|`, so the answer y stands while
:math:`\|x' - x\| < \min_j (f_y - f_j) / L_{yj}`. The inequality is strict: at equality a tie can be reached.

Two networks are spoken of. In real arithmetic only the evaluation of the gap at x is inexact. The executed float32
network differs from the real one by at most D in every difference of two logits within the radius of the real one
(`robcert.certificates.executed`), at x' too, so it answers y while :math:`L_{yj} \|x' - x\| < f_y - f_j - D`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.bounds.lipschitz.network_bound import BINDINGS, NetworkBound
from robcert.bounds.rounding.logits import analyse, gap_error64, logit_rounding
from robcert.bracket import Evidence
from robcert.certificates import Certificates, Search, certificate, round_down
from robcert.certificates.executed import executed_radii
from robcert.certificates.trials import clean
from robcert.errors import EvaluationError
from robcert.types import BoundNorm, LoadedModel


@dataclass(frozen=True)
class GapEvidence(Evidence):
    """The constants of the network in the norm of the perturbation, and how far logits are off.

    Attributes:
        lipschitz: of the logits.
        lipschitz_features: of the features in front of the linear head.
        lipschitz_logit: the largest of a single logit.
        rounding_float32: of an executed logit anywhere in the box; None where no bound is known.
        rounding_float64: of the difference of two logits, evaluated in float64.
    """

    lipschitz: float
    lipschitz_features: float
    lipschitz_logit: float
    rounding_float32: float | None
    rounding_float64: float


@certificate("gap", evidence=GapEvidence, cost=1, closed_form=True)
def certify_gap(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """Certify images by the global Lipschitz constants of the network.

    Args:
        model: the network.
        x: (n, *shape) float32, inside the box.
        y: (n,) int64.
        norm: of the perturbation.
        search: which radii are asked for: those in real arithmetic have a closed form, those of the executed network
            are as close to them as that needs (`robcert.certificates.executed`).

    Returns:
        Radii for correctly classified images, 0 for the others. Where no bound of the rounding of the executed network
        is known, the radii of the network in real arithmetic stand alone, and ``refused`` says why.

    Raises:
        EvaluationError: the graph of the network is not supported (`robcert.bounds.lipschitz.network_bound`).
    """
    began = time.monotonic()
    bound = analyse(model)[0].lipschitz[norm]
    executed, refused, evaluated = None, "", gap_error64(model)
    try:
        executed = logit_rounding(model).error
    except EvaluationError as error:
        refused = error.found
    images = clean(model, x, y, refused)
    labels = y.cpu()
    real, which = radii(images.logits, labels, images.correct, bound, slack=evaluated)
    radius = torch.zeros_like(real)
    if not images.refused:
        constants = pair_rows(bound, labels)

        def to_each(errors: Tensor) -> Tensor:
            return reach(images.logits, labels, constants, evaluated + errors)

        radius = round_down(executed_radii(model, x, labels, norm, real, to_each, search or Search()))
    return Certificates(
        method="gap",
        norm=norm,
        radius=radius,
        radius_real=real,
        gap=images.gap,
        prediction=images.prediction,
        binding=tuple(BINDINGS[k] if k >= 0 else "" for k in which.tolist()),
        seconds=time.monotonic() - began,
        evidence=GapEvidence(
            bound.whole,
            bound.features,
            float(bound.logits.max()),
            executed,
            evaluated,
        ),
        refused=images.refused,
    )


def pair_rows(bound: NetworkBound, y: Tensor) -> Tensor:
    """Return the constants L_yj of images with labels y (n,): (n, classes) float64."""
    labels, which = y.unique(return_inverse=True)
    return torch.stack([bound.pair_row(label) for label in labels.tolist()])[which] if len(y) else torch.zeros(0, 1)


def radii(logits: Tensor, y: Tensor, correct: Tensor, bound: NetworkBound, slack: float) -> tuple[Tensor, Tensor]:
    """The radius min_j (f_y - f_j - slack) / L_yj of every image, rounded down, and which constant was binding.

    Args:
        logits: (n, classes) float64.
        y: (n,) int64.
        correct: (n,) bool; the others get 0.
        bound: the Lipschitz constants.
        slack: what the difference of two logits may be off by.

    Returns:
        (n,) float64, and (n,) int64: an index into `BINDINGS`, or -1.
    """
    radius = torch.zeros(len(y), dtype=torch.float64)
    which = torch.full((len(y),), -1, dtype=torch.int64)
    for label in y[correct].unique().tolist():
        rows = (correct & (y == label)).nonzero().flatten()
        constants, kinds = bound.pair_row(label), bound.binding_row(label)
        nearest = reach(logits[rows], y[rows], constants, slack).min(dim=1)
        radius[rows] = round_down(nearest.values)
        which[rows] = kinds[nearest.indices]
    return radius, which


def reach(logits: Tensor, y: Tensor, constants: Tensor, slack: Tensor | float) -> Tensor:
    """Return (f_y - f_j - slack) / L_yj, not negative, and infinite at j = y: (n, classes) float64.

    Args:
        logits: (n, classes) float64.
        y: (n,) int64.
        constants: L_yj, broadcasts against (n, classes).
        slack: what a difference is off by; broadcasts likewise.
    """
    room = logits.gather(1, y.unsqueeze(1)) - logits - slack
    # Two roundings of the difference, one of the quotient: 4 u covers them, and `round_down` the factor itself.
    found = torch.where(room > 0, room / constants * (1 - 2.0**-51), torch.zeros_like(room))
    return found.scatter(1, y.unsqueeze(1), math.inf)
