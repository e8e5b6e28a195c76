"""The smallest step inside the box to a hyperplane, against a general solver and its own optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from robcert.math.hyperplane import l1_step_to, l2_step_to, linf_step_to
from robcert.math.norms import l1_norm, l2_norm, linf_norm

STEP_TO = {"l2": l2_step_to, "linf": linf_step_to, "l1": l1_step_to}
NORM = {"l2": l2_norm, "linf": linf_norm, "l1": l1_norm}


def draw(seed: int, entries: int, share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images with some entries on the edge of the box, normals with some zeros, and what share of the room to ask."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4, entries, generator=generator)
    x = torch.where(torch.rand(4, entries, generator=generator) < 0.3, x.round(), x)
    w = torch.randn(4, entries, generator=generator)
    w = torch.where(torch.rand(4, entries, generator=generator) < 0.2, torch.zeros_like(w), w)
    sign = torch.where(torch.rand(4, generator=generator) < 0.5, -1.0, 1.0)
    way = w * sign[:, None]
    most = (way.clamp_min(0) * (1 - x) - way.clamp_max(0) * x).sum(dim=1)
    return x, w, sign * share * most


@given(
    seed=st.integers(0, 10**6),
    entries=st.integers(1, 40),
    share=st.floats(0, 0.999),
    norm=st.sampled_from(sorted(NORM)),
)
def test_it_reaches_the_hyperplane_inside_the_box(seed: int, entries: int, share: float, norm: str) -> None:
    x, w, amount = draw(seed, entries, share)
    step = STEP_TO[norm](x, w, amount, (0.0, 1.0))
    assert bool(((x + step) >= -1e-6).all())
    assert bool(((x + step) <= 1 + 1e-6).all())
    assert torch.allclose((step * w).sum(dim=1), amount, atol=1e-4 * (1 + float(amount.abs().max())))


@pytest.mark.parametrize("norm", sorted(NORM))
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_no_solver_finds_a_smaller_step(norm: str, share: float) -> None:
    x, w, amount = (tensor.double() for tensor in draw(5, 12, share))
    found = NORM[norm](STEP_TO[norm](x, w, amount, (0.0, 1.0)))
    for k in range(4):
        low, high = (-x[k]).numpy(), (1 - x[k]).numpy()
        if norm == "l2":
            answer = minimize(
                lambda d: float(d @ d), np.zeros(12), jac=lambda d: 2 * d, method="SLSQP",
                bounds=list(zip(low, high, strict=True)), options={"ftol": 1e-9, "maxiter": 500},
                constraints={"type": "eq", "fun": lambda d, k=k: float(w[k].numpy() @ d - amount[k])},
            )  # fmt: skip
            best = float(np.sqrt(answer.fun))
        else:
            # Variables: the step, and its size (one bound for all entries in linf, one an entry in l1).
            extra = 1 if norm == "linf" else 12
            sizes = np.ones((12, 1)) if norm == "linf" else np.eye(12)
            answer = linprog(
                np.r_[np.zeros(12), np.ones(extra)],
                A_ub=np.block([[np.eye(12), -sizes], [-np.eye(12), -sizes]]), b_ub=np.zeros(24),
                A_eq=np.r_[w[k].numpy(), np.zeros(extra)][None], b_eq=[float(amount[k])],
                bounds=[*zip(low, high, strict=True), *[(0, None)] * extra],
            )  # fmt: skip
            best = float(answer.fun)
        assert answer.success
        assert float(found[k]) == pytest.approx(best, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("norm", sorted(NORM))
def test_out_of_reach_is_the_closest_corner_and_no_normal_no_step(norm: str) -> None:
    x, w, amount = draw(1, 20, 1.0)
    step = STEP_TO[norm](x, w, 3 * amount, (0.0, 1.0))
    assert torch.allclose((step * w).sum(dim=1), amount, rtol=1e-4, atol=1e-5), "all there is, and no more"
    assert torch.equal(STEP_TO[norm](x, torch.zeros_like(w), amount, (0.0, 1.0)), torch.zeros_like(x))


@pytest.mark.parametrize("norm", sorted(NORM))
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_the_normal_does_not_matter(norm: str, scale: float) -> None:
    x, w, amount = draw(2, 20, 0.5)
    plain = STEP_TO[norm](x, w, amount, (0.0, 1.0))
    assert torch.allclose(STEP_TO[norm](x, w * scale, amount * scale, (0.0, 1.0)), plain, rtol=1e-4, atol=1e-6)
