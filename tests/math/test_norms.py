"""Norms against numpy, and their duals against Hoelder's inequality, which each must attain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robcert.math.norms import distance, dual, per_image, vector_norm
from robcert.types import BOUND_NORMS, THREAT_NORMS, BoundNorm, ThreatNorm

ORDER = {"l2": 2, "linf": np.inf, "l1": 1}


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(THREAT_NORMS), entries=st.integers(1, 40))
def test_against_numpy(seed: int, norm: ThreatNorm, entries: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 3, entries))
    expected = [np.linalg.norm(row, ORDER[norm]) for row in x]
    assert vector_norm(torch.tensor(x), norm).tolist() == pytest.approx(expected, rel=1e-12)
    single = torch.tensor(x).float(), torch.tensor(y).float()
    apart = single[0].double().numpy() - single[1].double().numpy()
    measured = distance(*single, norm)
    assert measured.dtype == torch.float64
    assert measured.tolist() == pytest.approx([np.linalg.norm(row, ORDER[norm]) for row in apart], rel=1e-12)


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(BOUND_NORMS))
def test_hoelder_holds_and_is_attained(seed: int, norm: BoundNorm) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    bound = vector_norm(x, norm) * vector_norm(y, dual(norm))
    assert bool(((x * y).sum(dim=1).abs() <= bound * (1 + 1e-12)).all())
    if norm == "l2":
        tight = y
    elif norm == "linf":
        tight = y.sign()
    else:
        tight = torch.zeros_like(y).scatter(1, y.abs().argmax(1, keepdim=True), 1.0) * y.sign()
    attained = (tight * y).sum(dim=1)
    assert torch.allclose(attained, vector_norm(tight, norm) * vector_norm(y, dual(norm)), rtol=1e-12, atol=0)


def test_the_dual_of_the_dual_is_the_norm() -> None:
    assert {norm: dual(dual(norm)) for norm in BOUND_NORMS} == {norm: norm for norm in BOUND_NORMS}
    assert {dual(norm) for norm in BOUND_NORMS} == set(BOUND_NORMS)


def test_distances_are_measured_in_float64() -> None:
    x = torch.zeros(1, 10_000)
    y = torch.full((1, 10_000), 0.1)
    exact = 10_000 * float(torch.tensor(0.1, dtype=torch.float32))
    assert float(distance(x, y, "l1")) == pytest.approx(exact, rel=1e-13)


def test_per_image_broadcasts() -> None:
    assert per_image(torch.ones(3), torch.zeros(3, 1, 8, 8)).shape == (3, 1, 1, 1)
    assert per_image(torch.ones(3), torch.zeros(3, 7)).shape == (3, 1)
