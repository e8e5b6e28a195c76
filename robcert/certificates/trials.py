"""The largest certified radius of each image, from a method that answers for one radius at a time.

A bound that holds at one radius holds at every smaller one, so each success raises the radius and each failure caps
where the next trial goes; nothing depends on whether the method is monotone. A method bounds the margin of the executed
float32 network, rounding included, and that in real arithmetic; the label stands where a margin is above 0. Where
nothing is claimed about the executed network, radii are looked for in real arithmetic alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.bounds.linear.program import refusal
from robcert.bounds.rounding.logits import logits64
from robcert.bracket import Evidence
from robcert.certificates import Certificates, Search, round_down
from robcert.certificates.effort import Effort, TimeLimit
from robcert.errors import EvaluationError
from robcert.progress import working
from robcert.threats.kind import norm_of
from robcert.types import BoundNorm, LoadedModel

Probe = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(images (m,), eps (m,)) -> lower bounds of the smallest margin of the executed network and in real arithmetic, (m,)
each."""

_DOUBLINGS = 12
_CHUNK = 128


@dataclass(frozen=True)
class TrialsEvidence(Evidence):
    """How tight the bounds are.

    Attributes:
        looser_than_ibp_alone: the share of linear bounds that intervals were better than; None where none was needed.
    """

    looser_than_ibp_alone: float | None = None


@dataclass(frozen=True)
class Clean:
    """The answers to images without any perturbation.

    Attributes:
        correct: (n,) bool, in float64 and as executed.
        prediction: (n,) int64, executed.
        logits: (n, classes) float64.
        gap: (n,) float64, the largest logit less the second largest.
        refused: why nothing is claimed about the executed network.
    """

    correct: Tensor
    prediction: Tensor
    logits: Tensor
    gap: Tensor
    refused: str = ""


def clean(model: LoadedModel, x: Tensor, y: Tensor, refused: str | None = None) -> Clean:
    """Evaluate images as they are.

    Args:
        model: the network.
        x: (n, *shape).
        y: (n,) int64.
        refused: why nothing is claimed about the executed network; by default what linear bounds say of it.
    """
    refused = refusal(model) if refused is None else refused
    try:
        logits = logits64(model, x)
    except EvaluationError:
        # An answer only picks the images that are worth trying: a margin above 0 is its own proof.
        logits = logits32(model, x).double()
    prediction = answers(model, x)
    ordered = logits.sort(dim=1, descending=True).values
    correct = (logits.argmax(dim=1) == y.cpu()) & (prediction == y.cpu())
    return Clean(correct, prediction, logits, ordered[:, 0] - ordered[:, 1], refused)


@dataclass
class Found:
    """Radii so far, (n,) float64.

    Attributes:
        radius: certified as executed.
        real: certified in real arithmetic.
        failed: the smallest one at which a trial of the executed network failed; infinite where none did.
        failed_real: the same in real arithmetic.
        margin: the lower bound of the smallest margin at ``failed``, NaN where none was computed.
    """

    radius: Tensor
    real: Tensor
    failed: Tensor
    failed_real: Tensor
    margin: Tensor

    @classmethod
    def nothing(cls, n: int) -> Found:
        """Before the first trial."""
        nothing = torch.zeros(n, dtype=torch.float64)
        endless = torch.full_like(nothing, math.inf)
        return cls(nothing, nothing.clone(), endless, endless.clone(), torch.full_like(nothing, math.nan))


def answers(model: LoadedModel, x: Tensor) -> Tensor:
    """Return the answers of the executed network: (n,) int64, on the CPU."""
    return logits32(model, x).argmax(dim=1)


@torch.no_grad()
def logits32(model: LoadedModel, x: Tensor) -> Tensor:
    """Return the logits of the executed network: (n, classes) float32, on the CPU."""
    parts = [model.module(chunk).cpu() for chunk in x.split(_CHUNK)]
    return torch.cat(parts) if parts else torch.zeros(0, model.num_classes)


class Trials:
    """Trials of one method on the images of one model.

    Args:
        model: the network.
        x: (n, *shape).
        norm: of the balls.
        images: what is known about them.
        probe: the method.
        batch: how many images it takes at once.
        limit: of the time of each image; None for no limit.
    """

    def __init__(
        self,
        model: LoadedModel,
        x: Tensor,
        norm: BoundNorm,
        images: Clean,
        probe: Probe,
        batch: int,
        limit: TimeLimit | None = None,
    ) -> None:
        self.model, self.x, self.images = model, x, images
        self.norm: BoundNorm = norm
        self.probe, self.batch = probe, batch
        self.limit = TimeLimit(len(x)) if limit is None else limit
        self.found = Found.nothing(len(x))

    def run(self, search: Search) -> Found:
        """Decide the budgets, then look for the largest radius where that is asked for."""
        found, n = self.found, len(self.x)
        if search.below is not None:
            found.radius = torch.maximum(found.radius, search.below)
        if search.above is not None:
            found.failed = torch.minimum(found.failed, search.above.cpu().double())
            found.failed_real = found.failed.clone()
        for eps in search.eps:
            tried = eps * (1 + 2.0**-40)
            rows = self.images.correct & (found.radius <= eps) & (found.failed > tried)
            self.at(rows.nonzero().flatten(), torch.full((n,), tried, dtype=torch.float64))
        if search.largest:
            self._bisect(search.tolerance, real=False)
            self._bisect(search.tolerance, real=True)
        return found

    def at(self, rows: Tensor, eps: Tensor) -> None:
        """Try one radius for each of some images."""
        allowed = self.limit.allowed(rows)
        if not len(allowed):
            return
        low, high = float(eps[allowed].min()), float(eps[allowed].max())
        radii = f"radius {low:.3g}" if low == high else f"radii {low:.3g} to {high:.3g}"
        with working(radii, len(allowed), "images") as work:
            for part in allowed.split(self.batch):
                with self.limit.charged(part):
                    self._try(part, eps)
                proven = int((self.found.radius[allowed] >= eps[allowed]).sum())
                work.advance(len(part), f"{proven} certified")

    def _try(self, part: Tensor, eps: Tensor) -> None:
        """The same for images that are tried together."""
        found = self.found
        tried = eps[part]
        lower, exact = self.probe(part, tried)
        lower = exact if self.images.refused else lower
        certified, real = lower > 0, exact > 0
        found.real[part] = torch.where(real, torch.maximum(found.real[part], tried), found.real[part])
        found.radius[part] = torch.where(certified, torch.maximum(found.radius[part], tried), found.radius[part])
        found.failed_real[part] = torch.where(real, found.failed_real[part], found.failed_real[part].minimum(tried))
        smaller = ~certified & (tried <= found.failed[part])
        found.failed[part] = torch.where(smaller, tried, found.failed[part])
        found.margin[part] = torch.where(smaller, lower, found.margin[part])

    def _bisect(self, tolerance: float, *, real: bool) -> None:
        """Look for the largest radius of the executed network, or in real arithmetic."""
        found = self.found
        if real:
            found.real = torch.maximum(found.real, found.radius)
        widest = norm_of(self.norm).diameter(tuple(self.x.shape[1:]), self.model.box)
        for _ in range(4 * _DOUBLINGS):
            inner, failed = (found.real, found.failed_real) if real else (found.radius, found.failed)
            outer = failed.clamp_max(2 * widest)
            going = self.images.correct & (outer > inner * (1 + tolerance)) & (inner <= widest)
            going &= outer > widest * 2.0 ** (-2 * _DOUBLINGS)
            if not bool(going.any()):
                return
            unknown, bounded = inner == 0, torch.isfinite(failed)
            first = torch.where(bounded, outer / 4, torch.full_like(outer, widest / 64))
            middle = torch.where(bounded, (inner * outer).sqrt(), inner * 2)
            before = inner.clone(), failed.clone()
            self.at(going.nonzero().flatten(), torch.where(unknown, first, middle))
            inner, failed = (found.real, found.failed_real) if real else (found.radius, found.failed)
            if torch.equal(before[0], inner) and torch.equal(before[1], failed):
                return  # out of time


def certificates_of(
    method: str,
    norm: BoundNorm,
    images: Clean,
    found: Found,
    began: float,
    search: Search,
    limit: TimeLimit,
    looser: float | None = None,
    examples: Tensor | None = None,
) -> Certificates:
    """Return radii as `Certificates`; those in real arithmetic alone say nothing about the executed network.

    Args:
        method: its name.
        norm: of the balls.
        images: what is known about them.
        found: their radii.
        began: of `time.monotonic`.
        search: what was asked for.
        limit: of the time of each image.
        looser: the share of linear bounds that intervals were better than.
        examples: see `Certificates`.
    """
    nothing = torch.zeros_like(found.radius)
    radius = torch.where(images.correct, found.radius, nothing)
    real = torch.where(images.correct, torch.maximum(found.real, found.radius), nothing)
    late = limit.late & undecided(images.correct, radius, examples, search)
    return Certificates(
        method=method,
        norm=norm,
        radius=nothing if images.refused else round_down(radius),
        radius_real=round_down(real),
        gap=images.gap,
        prediction=images.prediction,
        binding=tuple(method if r > 0 else "" for r in real.tolist()),
        seconds=time.monotonic() - began,
        evidence=TrialsEvidence(looser),
        refused=images.refused,
        examples=examples,
        effort=Effort(limit.own, late, found.failed, found.margin),
    )


def undecided(correct: Tensor, radius: Tensor, examples: Tensor | None, search: Search) -> Tensor:
    """Return which images (n,) bool still have an open question: right, not certified as far as asked, no example."""
    going = correct.clone() if search.largest else correct & (radius <= (search.eps[-1] if search.eps else 0.0))
    if examples is not None and not search.largest:
        going &= ~torch.isfinite(examples.flatten(1)).all(1)
    return going
