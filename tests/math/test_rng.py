"""Random streams: they depend on seed, index and restart alone, and they have the distribution they claim."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from robcert.math.rng import SampleRng
from robcert.threats.kind import NORMS, norm_of
from robcert.types import BOUND_NORMS, ThreatNorm

SHAPE = (1, 3, 5)


def stream(seed: int, index: list[int], restart: int | list[int] = 0) -> SampleRng:
    restarts = [restart] * len(index) if isinstance(restart, int) else restart
    return SampleRng(seed, torch.tensor(index), torch.tensor(restarts))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**63 - 1),
    index=st.lists(st.integers(0, 10**7), min_size=1, max_size=12, unique=True),
    restart=st.integers(0, 1000),
    norm=st.sampled_from(sorted(NORMS)),
    data=st.data(),
)
def test_company_does_not_matter(
    seed: int, index: list[int], restart: int, norm: ThreatNorm, data: st.DataObject
) -> None:
    together = norm_of(norm).sample(stream(seed, index, restart), SHAPE)
    assert together.dtype == torch.float32
    for row, i in enumerate(index):
        assert torch.equal(norm_of(norm).sample(stream(seed, [i], restart), SHAPE)[0], together[row])
    order = data.draw(st.permutations(range(len(index))))
    shuffled = norm_of(norm).sample(stream(seed, [index[k] for k in order], restart), SHAPE)
    assert torch.equal(shuffled, together[list(order)])


def test_every_part_of_the_key_matters() -> None:
    drawn = {
        (seed, index, restart, tag): tuple(stream(seed, [index], restart).bits(4, tag).flatten().tolist())
        for seed in (0, 1, 2, 10**9)
        for index in (0, 1, 2, 499)
        for restart in (0, 1, 2, 9)
        for tag in (0, 1, 2, 1000)
    }
    assert len(set(drawn.values())) == len(drawn)
    assert len({value for values in drawn.values() for value in values}) == 4 * len(drawn), "no bits repeat"


def test_neighbouring_streams_are_uncorrelated() -> None:
    n, count = 400, 400
    base = stream(0, list(range(n))).uniform((count,)) - 0.5
    others = [
        stream(0, list(range(1, n + 1))).uniform((count,)) - 0.5,
        stream(0, list(range(n)), 1).uniform((count,)) - 0.5,
        stream(1, list(range(n))).uniform((count,)) - 0.5,
        stream(0, list(range(n))).uniform((count,), tag=1) - 0.5,
        base.roll(1, dims=1),
    ]
    for other in others:
        # Of 160,000 independent products the mean has standard deviation 12 * (1/12) / 400: five of them.
        assert abs(float((base.double() * other.double()).mean()) * 12) < 5 / math.sqrt(n * count)


def test_uniform_and_normal_have_their_distribution() -> None:
    rng = stream(3, list(range(200)))
    uniform, normal = rng.uniform((250,)).double().flatten(), rng.normal((250,)).double().flatten()
    assert float(uniform.min()) > 0
    assert float(uniform.max()) < 1
    assert kstest(uniform.numpy(), "uniform").pvalue > 1e-4
    assert kstest(normal.numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_uniform_in_the_ball(norm: ThreatNorm) -> None:
    entries = 6
    unit = norm_of(norm).sample(stream(7, list(range(20_000))), (entries,)).double()
    radius = norm_of(norm).norm(unit)
    assert float(radius.max()) <= 1 + 1e-6
    # Uniform in a ball of d dimensions: the share within radius r is r^d, in every norm.
    assert kstest((radius**entries).numpy(), "uniform").pvalue > 1e-4
    error = 5 / math.sqrt(len(unit))
    assert bool((unit.mean(dim=0).abs() < error).all()), "centred"
    second = {"l2": 1 / (entries + 2), "linf": 1 / 3, "l1": 2 / ((entries + 1) * (entries + 2))}[norm]
    assert torch.allclose(unit.square().mean(dim=0), torch.full((entries,), second).double(), rtol=0.06)
    signs = unit.sign()
    assert bool(((signs.T @ signs / len(unit) - torch.eye(entries).double()).abs() < error).all())
    direction = unit / radius[:, None]
    split = radius > radius.median()
    assert torch.allclose(direction[split].square().mean(0), direction[~split].square().mean(0), atol=0.02)


def test_restarts_differ_and_the_seed_repeats() -> None:
    index = list(range(50))
    first = [norm_of("l2").sample(stream(5, index, restart), SHAPE) for restart in range(4)]
    again = [norm_of("l2").sample(stream(5, index, restart), SHAPE) for restart in range(4)]
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    apart = torch.cdist(
        torch.stack([a.flatten(1) for a in first], dim=1), torch.stack([a.flatten(1) for a in first], dim=1)
    )
    assert float((apart + torch.eye(4) * 10).min()) > 0.1
