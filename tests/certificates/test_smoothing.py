"""Randomised smoothing on a classifier whose smoothed radius is known: a plane, at its exact distance."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

from robcert.certificates import Search, certificates
from robcert.certificates.smoothing import SELECTION, SmoothingEvidence, radius_of
from robcert.errors import UsageError
from robcert.network import from_module

SIGMA, SAMPLES, CONFIDENCE = 0.5, 100_000, 0.999


def test_radii_of_a_plane_exceed_the_exact_one_at_most_as_often_as_stated(capsys: pytest.CaptureFixture[str]) -> None:
    """The answer under noise is right with probability Phi(margin / sigma): counts are binomial, and the exact radius
    is the margin. 10,000 repetitions."""
    random = np.random.default_rng(0)
    margins = random.uniform(0.5, 3.0, 10_000) * SIGMA
    hits = binom.rvs(SAMPLES, norm.cdf(margins / SIGMA), random_state=random)
    radii = np.array([radius_of(int(h), SAMPLES, SIGMA, CONFIDENCE) for h in hits])
    exceeded, share = int((radii > margins).sum()), float(np.mean(radii / margins))
    with capsys.disabled():
        sys.stdout.write(f"\nsmoothing: {exceeded} of 10000 above the exact radius, mean {100 * share:.1f}% of it\n")
    assert exceeded <= 20
    assert share >= 0.95


def plane() -> nn.Module:
    net = nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0, 0], [0.0, 0, 0]]))
        net.bias.copy_(torch.tensor([-0.4, 0.0]))
    return net


def test_sampling_gives_the_radius_of_the_plane() -> None:
    """The distance of (t, ...) to the plane is |t - 0.4|, whatever sigma is."""
    model = from_module(plane(), (3,), 2)
    x = torch.tensor([[0.9, 0.2, 0.1], [0.7, 0.0, 1.0], [0.0, 0.5, 0.5], [0.4, 0.5, 0.5], [0.9, 0.2, 0.1]])
    y = torch.tensor([0, 0, 1, 0, 1])
    search = Search(options={"sigma": 0.25, "samples": 20_000.0})
    found = certificates.get("smoothing")(model, x, y, "l2", search)
    exact = torch.tensor([0.5, 0.3, 0.4])
    assert bool((found.radius[:3] <= exact).all() and (found.radius[:3] >= 0.93 * exact).all())
    assert found.radius[3] == 0 and int(found.prediction[3]) == -1, "on the plane it abstains"
    assert found.radius[4] == 0, "certain, and wrong"
    assert isinstance(found.evidence, SmoothingEvidence) and found.evidence.confidence == 0.999
    assert found.constants["abstained"] == 1
    again = certificates.get("smoothing")(model, x, y, "l2", search)
    assert torch.equal(found.radius, again.radius), "the same seed draws the same samples"


def test_early_stopping_does_not_change_decisions() -> None:
    model = from_module(plane(), (3,), 2)
    x, y = torch.rand(12, 3), torch.randint(0, 2, (12,))
    options = {"sigma": 0.25, "samples": 10_000.0}
    whole = certificates.get("smoothing")(model, x, y, "l2", Search(eps=(0.1,), options=options))
    early = certificates.get("smoothing")(model, x, y, "l2", Search(eps=(0.1,), largest=False, options=options))
    assert torch.equal(whole.radius > 0.1, early.radius > 0.1)
    assert early.constants["samples_drawn"] < whole.constants["samples_drawn"] < 12 * (10_000 + SELECTION) + 1


@pytest.mark.parametrize(
    ("norm_", "options", "message"),
    [
        ("linf", {}, "certifies l2, not linf"),
        ("l2", {"sigma": 0.0}, "sigma is 0"),
        ("l2", {"confidence": 1.0}, "confidence is 1"),
    ],
)
def test_what_makes_no_sense_is_refused(norm_: str, options: dict[str, float], message: str) -> None:
    model = from_module(plane(), (3,), 2)
    with pytest.raises(UsageError, match=message):
        certificates.get("smoothing")(model, torch.rand(1, 3), torch.zeros(1).long(), norm_, Search(options=options))  # type: ignore[arg-type]
