"""The verifier: what it accepts holds in float64, without a tolerance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import toy

from robcert.search.verifier import Verifier, pull_inside
from robcert.types import BOUND_NORMS, Threat, ThreatNorm

ORDER = {"l2": 2, "linf": np.inf, "l1": 1}
BOXES = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]


def lengths(a: Tensor, b: Tensor, norm: ThreatNorm) -> list[float]:
    """numpy's opinion, in float64."""
    apart = a.numpy().astype(np.float64) - b.numpy().astype(np.float64)
    return [float(np.linalg.norm(row.ravel(), ORDER[norm])) for row in apart]


@settings(max_examples=300)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from(BOUND_NORMS),
    box=st.sampled_from(BOXES),
    entries=st.integers(1, 200),
    relative=st.floats(1e-6, 1.0),
    overshoot=st.sampled_from([0.0, 1e-9, 1e-7, 1e-5, 0.5, 100.0]),
    binary=st.booleans(),
)
def test_pulled_points_obey(
    seed: int, norm: ThreatNorm, box: tuple[float, float], entries: int, relative: float, overshoot: float, binary: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    low, high = box
    x = torch.rand(4, entries, generator=generator)
    x = low + (high - low) * (x.round() if binary else x)
    direction = torch.randn(4, entries, generator=generator).double()
    eps = relative * (high - low)
    size = torch.tensor(lengths(direction.float(), torch.zeros(4, entries), norm)).double()
    candidate = (x.double() + direction * (eps * (1 + overshoot) / size)[:, None]).float().clamp(low, high)
    budget = torch.full((4,), eps, dtype=torch.float64)
    found = pull_inside(candidate, x, budget, Threat(norm, (eps,), box))
    assert found.dtype == torch.float32
    assert all(length <= eps for length in lengths(found, x, norm))
    assert float(found.min()) >= low
    assert float(found.max()) <= high
    if relative >= 1e-3 and overshoot <= 1e-5:
        moved, wanted = lengths(found, x, norm), lengths(candidate, x, norm)
        assert all(a >= 0.99 * min(b, eps) for a, b in zip(moved, wanted, strict=True)), "hardly anything is lost"


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), norm=st.sampled_from(BOUND_NORMS), eps=st.sampled_from([0.01, 8 / 255, 0.5]))
def test_what_is_accepted_holds(seed: int, norm: ThreatNorm, eps: float) -> None:
    torch.manual_seed(seed)
    net = nn.Linear(20, 4)
    model = toy(net, (20,), 4)
    x, y = torch.rand(16, 20), torch.randint(0, 4, (16,))
    candidate = x + eps * torch.randn(16, 20)
    found = Verifier(model, Threat(norm, (eps / 2, eps), (0.0, 1.0)), 128)(candidate, x, y)
    exact = found.x.double() @ net.weight.double().T + net.bias.double()
    gap = exact.scatter(1, y[:, None], float("-inf")).amax(1) - exact.gather(1, y[:, None])[:, 0]
    assert bool((gap[found.accepted] > 0).all()), "misclassified in float64 as well"
    assert bool((found.accepted | (gap < 1e-5)).all()), "and nothing clear is refused"
    assert torch.equal(found.label, exact.argmax(1))
    assert found.distance[found.accepted].tolist() == pytest.approx(
        [d for d, kept in zip(lengths(found.x, x, norm), found.accepted, strict=True) if kept], rel=1e-14
    )
    assert bool((found.distance[~found.accepted] == float("inf")).all())
    assert float(found.x.min()) >= 0
    assert float(found.x.max()) <= 1


@pytest.mark.parametrize("norm", BOUND_NORMS)
@pytest.mark.parametrize("eps", [1e-3, 2 / 255, 8 / 255, 0.5, 3.0])
def test_a_point_on_the_surface_ends_inside(norm: ThreatNorm, eps: float) -> None:
    """Whatever float32 made of x + delta, what is kept has distance <= eps, and is still close to the surface."""
    torch.manual_seed(0)
    x = torch.rand(64, 100)
    direction = torch.randn(64, 100)
    if norm == "linf":
        direction = direction.sign()
    candidate = x + direction * (eps / torch.tensor(lengths(direction, torch.zeros_like(x), norm))).float()[:, None]
    everything = toy(Always(), (100,), 2, (-10.0, 10.0))
    found = Verifier(everything, Threat(norm, (eps,), (-10.0, 10.0)), 128)(candidate, x, torch.zeros(64).long())
    assert bool(found.accepted.all())
    assert max(lengths(found.x, x, norm)) <= eps
    assert min(lengths(found.x, x, norm)) >= 0.999 * eps


class Always(nn.Module):
    """Answers 1, by a margin of one, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(x)), torch.ones(len(x))], dim=1) + 0 * x.flatten(1)[:, :1]


class Fixed(nn.Module):
    """Answers with the given logits."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


@pytest.mark.parametrize(
    ("logits", "rounding", "accepted"),
    [
        ((0.0, 1.0), 2.0**-20, True),
        ((1.0, 1.0), 2.0**-20, False),
        ((1.0, 1.0 + 2.0**-21), 2.0**-20, False),
        ((1.0, 1.0 + 2.0**-19), 2.0**-20, True),
        ((1.0, 1.4), 0.5, False),
        ((float("nan"), 1.0), 2.0**-20, False),
        ((0.0, float("nan")), 2.0**-20, False),
        ((0.0, float("inf")), 2.0**-20, False),
        ((float("-inf"), 0.0), 2.0**-20, False),
        ((1.0, 0.0), 2.0**-20, False),
    ],
)
def test_only_beyond_the_rounding_bound(logits: tuple[float, ...], rounding: float, accepted: bool) -> None:
    model = toy(Fixed(*logits), (3,), 2, rounding=rounding)
    found = Verifier(model, Threat("l2", (1.0,)), 128)(torch.full((2, 3), 0.5), torch.rand(2, 3), torch.zeros(2).long())
    assert found.accepted.tolist() == [accepted] * 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_candidates_that_are_no_images(bad: float) -> None:
    model = toy(Always(), (3,), 2)
    candidate = torch.full((1, 3), 0.5)
    candidate[0, 1] = bad
    found = Verifier(model, Threat("l2", (5.0,)), 128)(candidate, torch.zeros(1, 3), torch.zeros(1).long())
    assert bool(found.x.isfinite().all()) or not bool(found.accepted[0])
    assert bool(found.accepted[0]) == (bad == float("inf")), "infinity is clipped to the box, NaN is refused"
