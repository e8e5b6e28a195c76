"""Planes of a maximum: sound for all weights, the chord for two entries, exact where one entry is the largest."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.comparisons import compared
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.maximum import Maximum, balanced
from robcert.bounds.linear.program import program
from robcert.network import from_module

POOLS = {
    "disjoint": (nn.MaxPool2d(2), True),
    "overlapping, padded": (nn.MaxPool2d(3, 2, 1), True),
    "without zero": (nn.MaxPool2d((1, 3)), False),
    "of one entry": (nn.MaxPool2d(1), True),
}


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("behind", [True, False])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_both_planes_hold_whatever_the_weights(kind: str, behind: bool, seed: int) -> None:
    torch.manual_seed(seed)
    pool, zero = POOLS[kind]
    relu = (pool, nn.ReLU()) if behind else (nn.ReLU(), pool)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), *(relu if zero else (pool,)), nn.Flatten(), nn.LazyLinear(2))
    net(torch.zeros(1, 1, 4, 4))
    model = from_module(net, (1, 4, 4), 2)
    x = torch.rand(1, 1, 4, 4)
    around = region(x, torch.tensor([0.1], dtype=torch.float64), "linf", (0.0, 1.0))
    network = compared(program(model))
    assert not any(type(step).__name__ == "OrderStatistic" for step in network.steps)
    found = relax(network, around, "crown")
    step = next(step for step in network.steps if isinstance(step, Maximum))
    assert step.floor == zero
    given_ = [found.intervals[name] for name in step.sources]
    contest = step.relax(given_)
    points = around.lower + torch.rand(200, 1, 4, 4, dtype=torch.float64) * (around.upper - around.lower)
    entries = net[0].double()(points).detach()
    largest = (pool(entries.relu()) if zero else pool(entries)).flatten(1)
    for weights in (contest.weights.unsqueeze(1), torch.rand(1, 1, *contest.weights.shape[1:], dtype=torch.float64)):
        for sign in (1.0, -1.0):
            rows = sign * torch.eye(largest.shape[1], dtype=torch.float64).view(1, -1, *step.shape)
            pulled = step.pull_at(Rows(rows), contest, step.confined(weights))
            assert pulled.rows[0] is not None and pulled.rows[1] is None
            plane = entries.flatten(1) @ pulled.rows[0].a[0].flatten(1).T + pulled.constant
            # The entries are those of float64; the intervals allow for those of float32 too.
            assert bool((plane <= sign * largest + 1e-9).all())


@given(up=st.floats(0.01, 10), down=st.floats(0.01, 10))
def test_two_entries_have_the_chord(up: float, down: float) -> None:
    lead = torch.tensor([[0.0, up], [down, 0.0]], dtype=torch.float64)
    weights = balanced(lead[None, ..., None], torch.ones(1, 2, 1, dtype=torch.bool))[0, :, 0]
    chord = up * down / (up + down)
    assert float((lead @ weights).amax()) == pytest.approx(chord, rel=0.05)


@given(signs=st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=3, max_size=3))
def test_one_entry_stays_when_none_leads(signs: list[float]) -> None:
    """Whatever is known of the order, one of those that stay is the largest, also where some are always equal."""
    from robcert.bounds.linear.maximum import _undominated  # pyright: ignore[reportPrivateUsage]

    lead = torch.zeros(1, 3, 3, 1, dtype=torch.float64)
    for (i, j), sign in zip(itertools.combinations(range(3), 2), signs, strict=True):
        lead[0, i, j], lead[0, j, i] = max(sign, 0.0), max(-sign, 0.0)
    kept = _undominated(lead, torch.ones(1, 3, 1, dtype=torch.bool))[0, :, 0]
    assert bool(kept.any())
    for i in range(3):
        beaten_by = [j for j in range(3) if j != i and float(lead[0, i, j]) <= 0]
        assert bool(kept[i]) or beaten_by
