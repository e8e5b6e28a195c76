"""Projections against oracles that know nothing of how they are computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from robcert.threats.kind import NORMS, norm_of
from robcert.types import ThreatNorm

BOX = (0.0, 1.0)

cases = st.tuples(
    st.integers(0, 10**6),  # seed
    st.integers(1, 24),  # entries
    st.sampled_from([0.01, 0.3, 1.0, 5.0]),  # size of the perturbation
    st.sampled_from([0.001, 0.1, 0.7, 3.0]),  # eps
    st.sampled_from(["inside", "binary", "ties", "zeros"]),
)


def draw(case: tuple[int, int, float, float, str], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    seed, entries, size, eps, kind = case
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, entries, generator=generator, dtype=torch.float64)
    delta = size * torch.randn(3, entries, generator=generator, dtype=torch.float64)
    if kind == "binary":
        x = x.round()
    if kind == "ties":
        delta = delta.sign() * size
    if kind == "zeros":
        delta[:, ::2] = 0
    budget = eps * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    return x.to(dtype), delta.to(dtype), budget.to(dtype)


def by_bisection(delta: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    """The projection onto {|z|_1 <= eps, low <= z <= high} by bisection on the multiplier of its KKT conditions."""

    def at(multiplier: float) -> Tensor:
        shrunk = delta.sign() * (delta.abs() - multiplier).clamp_min(0)
        return torch.minimum(torch.maximum(shrunk, low), high)

    if float(at(0.0).abs().sum()) <= eps:
        return at(0.0)
    below, above = 0.0, float(delta.abs().max())
    for _ in range(200):
        middle = (below + above) / 2
        below, above = (middle, above) if float(at(middle).abs().sum()) > eps else (below, middle)
    return at(above)


@settings(max_examples=300)
@given(case=cases)
def test_l1_in_the_box_is_the_nearest_point(case: tuple[int, int, float, float, str]) -> None:
    x, delta, eps = draw(case, torch.float64)
    found = norm_of("l1").project_in_box(delta, x, eps, BOX)
    for k in range(3):
        expected = by_bisection(delta[k], float(eps[k]), BOX[0] - x[k], BOX[1] - x[k])
        assert torch.allclose(found[k], expected, rtol=0, atol=1e-10)


@settings(max_examples=100)
@given(case=cases)
def test_l1_ball_is_the_nearest_point(case: tuple[int, int, float, float, str]) -> None:
    _, delta, eps = draw(case, torch.float64)
    wide = torch.full_like(delta[0], 1e9)
    found = norm_of("l1").project(delta, eps)
    for k in range(3):
        assert torch.allclose(found[k], by_bisection(delta[k], float(eps[k]), -wide, wide), rtol=0, atol=1e-10)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), norm=st.sampled_from(["l1", "linf"]))
def test_against_a_quadratic_programme(seed: int, norm: ThreatNorm) -> None:
    """SLSQP on z = p - q, p >= 0, q >= 0: no knowledge of the KKT conditions at all."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 4, generator=generator, dtype=torch.float64)
    delta = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    eps = 0.6
    d = delta[0].numpy()
    cap = eps if norm == "linf" else np.inf
    bounds = [(0, min(float(1 - v), cap)) for v in x[0]] + [(0, min(float(v), cap)) for v in x[0]]
    limit = {"type": "ineq", "fun": lambda z: eps - z.sum(), "jac": lambda z: -np.ones(8)}
    solved = minimize(
        lambda z: 0.5 * ((z[:4] - z[4:] - d) ** 2).sum(),
        np.full(8, 1e-3),
        jac=lambda z: np.concatenate([z[:4] - z[4:] - d, -(z[:4] - z[4:] - d)]),
        bounds=bounds,
        constraints=[limit] if norm == "l1" else [],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solved.success
    found = norm_of(norm).project_in_box(delta, x, torch.tensor([eps], dtype=torch.float64), BOX)[0].numpy()
    assert found == pytest.approx(solved.x[:4] - solved.x[4:], abs=1e-5)
    assert ((found - d) ** 2).sum() <= ((solved.x[:4] - solved.x[4:] - d) ** 2).sum() + 1e-9


@settings(max_examples=100)
@given(case=cases)
def test_l2_and_linf_balls_are_the_nearest_points(case: tuple[int, int, float, float, str]) -> None:
    _, delta, eps = draw(case, torch.float64)
    length = torch.linalg.vector_norm(delta, dim=1)
    found = norm_of("l2").project(delta, eps)
    for k in range(3):
        nearest = delta[k] if length[k] <= eps[k] else delta[k] * (eps[k] / length[k])
        assert torch.allclose(found[k], nearest, rtol=1e-12, atol=1e-15)
        assert torch.equal(norm_of("linf").project(delta, eps)[k], delta[k].clamp(-eps[k], eps[k]))


@settings(max_examples=200)
@given(case=cases, norm=st.sampled_from(sorted(NORMS)), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_feasible_idempotent_and_still_inside_stays(
    case: tuple[int, int, float, float, str], norm: ThreatNorm, dtype: torch.dtype
) -> None:
    x, delta, eps = draw(case, dtype)
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    found = norm_of(norm).project_in_box(delta, x, eps, BOX)
    assert bool((norm_of(norm).norm(found.double()) <= eps.double() * (1 + slack) + slack).all())
    assert float((x + found).min()) >= -slack
    assert float((x + found).max()) <= 1 + slack
    assert torch.allclose(norm_of(norm).project_in_box(found, x, eps, BOX), found, rtol=0, atol=slack)
    inside = 0.5 * norm_of(norm).project_in_box(delta, x, eps, BOX)
    assert torch.allclose(norm_of(norm).project_in_box(inside, x, eps, BOX), inside, rtol=0, atol=slack)
    assert bool((found * delta >= 0).all()), "no entry changes its sign"


def test_every_image_has_its_own_budget_and_no_company() -> None:
    torch.manual_seed(0)
    x, delta = torch.rand(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    eps = torch.tensor([0.1, 1.0, 5.0, 0.0, 100.0])
    for norm in NORMS:
        together = norm_of(norm).project_in_box(delta, x, eps, BOX)
        alone = [norm_of(norm).project_in_box(delta[k : k + 1], x[k : k + 1], eps[k : k + 1], BOX) for k in range(5)]
        assert torch.equal(together, torch.cat(alone))
        assert float(together[3].abs().max()) <= 1e-6, "a budget of zero moves nothing but rounding"
