"""What a first policy asks for: limits that the images show, and the images and legs that the time has room for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robcert.math.exact import least_that_reaches
from robcert.policy.schema import duration, seconds
from robcert.policy.start import LEAST, TOLERANCE, Measured
from robcert.runs.plan import LegPlan


def _measured(n: int, of: int) -> Measured:
    return Measured(n, of, 0.5, (LegPlan("pgd", 10),), (), n, n, n)


@given(n=st.integers(1, 600), more=st.sampled_from([0, 1, 5000]), share=st.floats(0, 1))
def test_a_limit_is_shown_by_what_was_measured_and_by_a_little_less(n: int, more: int, share: float) -> None:
    count = round(share * n)
    found = _measured(n, n + more)
    limit = found.limit(count)
    assert limit == round(limit, 2)
    if limit > 0:
        sure = count - TOLERANCE * n
        assert sure >= least_that_reaches(limit, n, 0.95 if more else None) - 1
        assert count >= least_that_reaches(limit, n, 0.95 if more else None)


@given(n=st.integers(LEAST, 1000), share=st.floats(0, 1))
def test_a_limit_is_close_to_what_was_measured(n: int, share: float) -> None:
    count = round(share * n)
    assert 0 <= count / n - _measured(n, 10_000).limit(count) <= 0.1
    assert 0 <= count / n - _measured(n, n).limit(count) <= 0.03


@pytest.mark.parametrize("text", ["90s", "2m", "1h", "0.5s", "61s"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert duration(seconds(text)) == text
