r"""Randomised smoothing (Cohen, Rosenfeld & Kolter 2019): a probabilistic l2 certificate for any classifier.

The smoothed classifier answers what the network answers most often under noise :math:`N(0, \sigma^2 I)`. If it answers
y with probability at least :math:`p > 1/2`, it does so within the l2 radius :math:`\sigma \Phi^{-1}(p)` (theorem 1). p
is bounded from samples: first a few choose the class, then fresh ones count it, and the exact Clopper-Pearson bound
holds with the stated confidence for each image. This says nothing about the network itself, and is never part of its
bracket.

The theorem is about Gaussian noise in real arithmetic. That the noise is float32, and rounded when it is added, is not
accounted for: a network that reads the low-order bits of its input can make a radius wrong (Jin et al. 2022, "Getting
a-Round Guarantees").
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from scipy.special import ndtri
from torch import Tensor

from robcert.bracket import Evidence, counted
from robcert.certificates import Certificates, Search, certificate
from robcert.certificates.trials import answers
from robcert.errors import UsageError
from robcert.math.binomial import lower_bound
from robcert.progress import working
from robcert.types import BoundNorm, LoadedModel

SIGMA, SAMPLES, CONFIDENCE = 0.25, 100_000, 0.999
SELECTION = 100
"""Samples that choose the class; they are not counted again."""
_BATCH = 1000


@dataclass(frozen=True)
class SmoothingEvidence(Evidence):
    """The noise, the samples, and the answers.

    Attributes:
        sigma: the standard deviation of the noise.
        samples: of an image, at most.
        samples_drawn: of all images.
        abstained: images without an answer of the smoothed classifier.
        network_correct: images that the network answers correctly.
        confidence: that each single radius holds.
    """

    sigma: float
    samples: float
    samples_drawn: float = counted()
    abstained: float = counted()
    network_correct: float = counted()
    confidence: float = field(default=CONFIDENCE, metadata={"constant": False})


@certificate("smoothing", evidence=SmoothingEvidence, closed_form=True, probabilistic=True)
def certify_smoothing(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """Certify the smoothed classifier; options "sigma", "samples", "confidence".

    Sampling of an image ends early where the answer cannot change any more: no number of further successes would give a
    bound above 1/2, or no number of failures would bring the radius below the largest budget. Both are decided on the
    bound for the full number of samples, so the confidence stays what it is.

    Raises:
        UsageError: a norm other than l2; a confidence or sigma without meaning.
    """
    began, search = time.monotonic(), search or Search()
    sigma = float(search.options.get("sigma", SIGMA))
    samples = int(search.options.get("samples", SAMPLES))
    confidence = float(search.options.get("confidence", CONFIDENCE))
    if norm != "l2":
        raise UsageError(f"smoothing with Gaussian noise certifies l2, not {norm}", "Give --norm l2")
    if not (sigma > 0 and math.isfinite(sigma)):
        raise UsageError(f"sigma is {sigma:g}, but noise has a positive width", "Example: --sigma 0.25")
    if not 0.5 <= confidence < 1:
        raise UsageError(f"the confidence is {confidence:g}", "Example: --confidence 0.999")
    if samples < 1:
        raise UsageError(f"{samples} samples are too few", "Example: --samples 100000")
    goal = search.eps[-1] if search.eps and not search.largest else None
    radius = torch.zeros(len(x), dtype=torch.float64)
    prediction = torch.full((len(x),), -1, dtype=torch.int64)
    drawn = 0
    with working("smoothing", len(x), "images") as work:
        for k in range(len(x)):
            generator = torch.Generator(device=x.device).manual_seed(
                (search.seed * 1_000_003 + search.first + k) % 2**63
            )
            chosen = int(counts(model, x[k], sigma, SELECTION, generator).argmax())
            hits, done = 0, 0
            while done < samples:
                size = min(_BATCH, samples - done)
                hits += int(counts(model, x[k], sigma, size, generator)[chosen])
                done += size
                least, most = hits, hits + samples - done
                if radius_of(most, samples, sigma, confidence) == 0:
                    break
                if goal is not None and radius_of(least, samples, sigma, confidence) > goal:
                    break
            drawn += done + SELECTION
            # What was not drawn counts as failures: a smaller bound, at the same confidence.
            found = radius_of(hits, samples, sigma, confidence)
            if found > 0:
                prediction[k] = chosen
                radius[k] = found if chosen == int(y[k]) else 0.0
            work.advance()
    return Certificates(
        method="smoothing",
        norm=norm,
        radius=radius,
        radius_real=radius,
        gap=torch.zeros(len(x), dtype=torch.float64),
        prediction=prediction,
        binding=tuple("smoothing" if r > 0 else "" for r in radius.tolist()),
        seconds=time.monotonic() - began,
        evidence=SmoothingEvidence(
            sigma,
            float(samples),
            float(drawn),
            float((prediction < 0).sum()),
            float((answers(model, x) == y.cpu()).sum()),
            confidence,
        ),
    )


def radius_of(hits: int, samples: int, sigma: float, confidence: float) -> float:
    """Return sigma Phi^-1 of the Clopper-Pearson lower bound, rounded down a little; 0 where it is no more than 1/2."""
    p = lower_bound(hits, samples, confidence)
    return max(0.0, sigma * float(ndtri(p)) * (1 - 1e-12)) if p > 0.5 else 0.0


@torch.no_grad()
def counts(model: LoadedModel, x: Tensor, sigma: float, samples: int, generator: torch.Generator) -> Tensor:
    """Return the number of times that each class is the answer to x (*shape) under noise: (classes,) int64.

    The noise leaves the box: the smoothed classifier is defined on all of space.
    """
    noise = torch.randn(samples, *x.shape, generator=generator, device=x.device, dtype=x.dtype)
    predicted = model.module(x.unsqueeze(0) + sigma * noise).argmax(dim=1)
    return torch.bincount(predicted, minlength=model.num_classes).cpu()
