"""Norms against numpy, and their duals against Hoelder's inequality, which each must attain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robcert.threats.kind import NORMS, norm_of
from robcert.types import BOUND_NORMS, BoundNorm, Threat, dual

ORDER = {"l2": 2, "linf": np.inf, "l1": 1}


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(BOUND_NORMS), entries=st.integers(1, 40))
def test_against_numpy(seed: int, norm: BoundNorm, entries: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 3, entries))
    expected = [np.linalg.norm(row, ORDER[norm]) for row in x]
    assert norm_of(norm).norm(torch.tensor(x)).tolist() == pytest.approx(expected, rel=1e-12)
    single = torch.tensor(x).float(), torch.tensor(y).float()
    apart = single[0].double().numpy() - single[1].double().numpy()
    measured = Threat(norm, (1.0,)).distance(*single)
    assert measured.dtype == torch.float64
    assert measured.tolist() == pytest.approx([np.linalg.norm(row, ORDER[norm]) for row in apart], rel=1e-12)


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(BOUND_NORMS))
def test_hoelder_holds_and_is_attained(seed: int, norm: BoundNorm) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    bound = norm_of(norm).norm(x) * norm_of(norm).dual(y)
    assert bool(((x * y).sum(dim=1).abs() <= bound * (1 + 1e-12)).all())
    if norm == "l2":
        tight = y
    elif norm == "linf":
        tight = y.sign()
    else:
        tight = torch.zeros_like(y).scatter(1, y.abs().argmax(1, keepdim=True), 1.0) * y.sign()
    attained = (tight * y).sum(dim=1)
    assert torch.allclose(attained, norm_of(norm).norm(tight) * norm_of(norm).dual(y), rtol=1e-12, atol=0)


def test_the_dual_of_the_dual_is_the_norm() -> None:
    assert {norm: dual(dual(norm)) for norm in BOUND_NORMS} == {norm: norm for norm in BOUND_NORMS}
    assert {dual(norm) for norm in BOUND_NORMS} == set(BOUND_NORMS)
    y = torch.randn(5, 3, 3)
    for norm in BOUND_NORMS:
        assert torch.equal(norm_of(norm).dual(y), norm_of(dual(norm)).norm(y))


def test_distances_are_measured_in_float64() -> None:
    x = torch.zeros(1, 10_000)
    y = torch.full((1, 10_000), 0.1)
    exact = 10_000 * float(torch.tensor(0.1, dtype=torch.float32))
    assert float(Threat("l1", (1.0,)).distance(x, y)) == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6])
def test_steepest_is_a_unit_step_that_gains_the_dual_norm(norm: str, scale: float) -> None:
    torch.manual_seed(0)
    gradient, middle = torch.randn(20, 4, 4, 4) * scale, torch.full((20, 4, 4, 4), 0.5)
    step = norm_of(norm).steepest(gradient, middle, (0.0, 1.0))
    assert torch.allclose(norm_of(norm).norm(step), torch.ones(20), rtol=1e-5)
    gain = ((step.double() * gradient.double()).flatten(1).sum(1) / norm_of(norm).dual(gradient.double())).tolist()
    assert gain == pytest.approx([1.0] * 20, rel=1e-5), "64 entries: one percent is one entry, exact in l1 as well"
    assert torch.equal(norm_of(norm).steepest(0 * middle[:2], middle[:2], (0.0, 1.0)), 0 * middle[:2])
