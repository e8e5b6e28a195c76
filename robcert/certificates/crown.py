"""Certificates by linear bounds: CROWN-IBP, CROWN and alpha-CROWN, in the order of their cost.

CROWN-IBP takes intermediate intervals from interval arithmetic and goes back once, from the margins. CROWN goes back
from every intermediate value whose interval matters. alpha-CROWN then improves the slopes of the margins' lower lines.
Sources: Zhang et al. 2018 (CROWN); Zhang et al. 2020 (CROWN-IBP); Xu et al. 2021 (alpha-CROWN).
"""

from __future__ import annotations

import time

from torch import Tensor

from robcert.bounds.linear.backward import ENTRIES
from robcert.bounds.linear.bounds import Mode
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import Program, program
from robcert.certificates import Certificates, Search, certificate
from robcert.certificates.effort import TimeLimit
from robcert.certificates.margins import ITERATIONS, margins
from robcert.certificates.trials import Probe, Trials, TrialsEvidence, certificates_of, clean
from robcert.types import BoundNorm, LoadedModel


@certificate("crown-ibp", evidence=TrialsEvidence, cost=3)
def certify_crown_ibp(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """Linear bounds of the margins over intervals of everything before."""
    return certified("crown-ibp", model, x, y, norm, search, "crown-ibp")


@certificate("crown", evidence=TrialsEvidence, cost=4)
def certify_crown(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """Linear bounds of the margins and of everything before."""
    return certified("crown", model, x, y, norm, search, "crown")


@certificate("alpha-crown", evidence=TrialsEvidence, cost=5)
def certify_alpha_crown(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """CROWN, then ascent on the slopes; the option "iterations" says how long."""
    return certified("alpha-crown", model, x, y, norm, search, "crown", alpha=True)


def certified(
    name: str,
    model: LoadedModel,
    x: Tensor,
    y: Tensor,
    norm: BoundNorm,
    search: Search | None,
    mode: Mode,
    alpha: bool = False,
) -> Certificates:
    """Run one way of bounding margins.

    Args:
        name: of the method.
        model: the network.
        x: (n, *shape), inside the box.
        y: (n,) int64.
        norm: of the perturbation.
        search: which radii are asked for.
        mode: of the bounds.
        alpha: improve slopes.

    Raises:
        EvaluationError: an op without a relaxation, or without a rounding bound.
    """
    began, search = time.monotonic(), search or Search()
    network, images = program(model), clean(model, x, y)
    counts = {"looser": 0.0, "bounds": 0.0}
    iterations = int(search.options.get("iterations", ITERATIONS)) if alpha else 0
    probe = prober(network, model, x, y, norm, mode, iterations, counts)
    limit = TimeLimit(len(x), search.seconds, search.spent)
    trials = Trials(model, x, norm, images, probe, batch_size(network, mode), limit)
    found = trials.run(search)
    looser = counts["looser"] / counts["bounds"] if counts["bounds"] else None
    return certificates_of(name, norm, images, found, began, search, limit, looser)


def prober(
    network: Program,
    model: LoadedModel,
    x: Tensor,
    y: Tensor,
    norm: BoundNorm,
    mode: Mode,
    alpha: int,
    counts: dict[str, float],
) -> Probe:
    """Return the function of one trial: the smallest margins over a ball of that radius."""
    images, labels = x.detach().cpu(), y.cpu()

    def probe(rows: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        around = region(images[rows], eps, norm, model.box)
        found = margins(network, around, labels[rows], mode, alpha=alpha)
        counts["looser"] += found.looser
        counts["bounds"] += found.bounds
        return found.smallest, found.real.amin(1)

    return probe


def batch_size(network: Program, mode: Mode) -> int:
    """Return the number of images at once: coefficients of all margins of all values have to fit."""
    classes = network.shapes[network.logits][0]
    most = ENTRIES // (classes * network.widest)
    return max(1, min(64 if mode != "crown" else 16, most))
