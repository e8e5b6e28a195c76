"""Exact intervals against scipy's own exact test and against the binomial distribution itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from robcert.math.binomial import interval, lower_bound, upper_bound

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(count=counts, confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_against_scipy(count: tuple[int, int], confidence: float) -> None:
    successes, n = count
    expected = binomtest(successes, n).proportion_ci(confidence, method="exact")
    assert interval(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)
    for alternative, side in (("greater", "low"), ("less", "high")):
        one = binomtest(successes, n, alternative=alternative).proportion_ci(confidence, method="exact")
        ours = lower_bound(successes, n, confidence) if side == "low" else upper_bound(successes, n, confidence)
        assert ours == pytest.approx(getattr(one, side), abs=1e-9)


@given(count=counts)
def test_at_the_bounds_the_tail_has_exactly_the_stated_probability(count: tuple[int, int]) -> None:
    successes, n = count
    if successes > 0:
        assert binom.sf(successes - 1, n, lower_bound(successes, n)) == pytest.approx(0.05, rel=1e-6)
    if successes < n:
        assert binom.cdf(successes, n, upper_bound(successes, n)) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("n", [1, 10, 37])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.93])
def test_coverage_is_at_least_what_is_stated(n: int, share: float) -> None:
    """Summed over the whole binomial distribution: exact intervals may cover more, never less."""
    covered = sum(binom.pmf(k, n, share) for k in range(n + 1) if interval(k, n)[0] <= share <= interval(k, n)[1])
    assert covered >= 0.95


def test_the_ends() -> None:
    assert lower_bound(0, 10) == 0
    assert upper_bound(10, 10) == 1
    assert interval(0, 0) == (0.0, 1.0)
    assert upper_bound(0, 300) < 0.01 < upper_bound(0, 290), "the rule of three"


@pytest.mark.parametrize("arguments", [(-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0)])
def test_nonsense_is_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="successes|confidence"):
        lower_bound(*arguments)  # type: ignore[arg-type]
