"""The bound of a count in a population that ends, against scipy's distribution."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from robcert.math.hypergeometric import most_of


@given(st.data())
def test_the_largest_count_that_the_sample_does_not_exclude(data: st.DataObject) -> None:
    population = data.draw(st.integers(1, 80))
    sample = data.draw(st.integers(0, population))
    seen = data.draw(st.integers(0, sample))
    most = most_of(seen, sample, population)
    largest = population - (sample - seen)
    assert seen <= most <= largest
    assert most == seen or hypergeom.cdf(seen, population, most, sample) > 0.05 - 1e-12
    assert most == largest or hypergeom.cdf(seen, population, most + 1, sample) <= 0.05 + 1e-12


def test_what_was_all_looked_at_is_known() -> None:
    assert most_of(3, 20, 20) == 3
    with pytest.raises(ValueError, match="4 of 3 of 20"):
        most_of(4, 3, 20)
