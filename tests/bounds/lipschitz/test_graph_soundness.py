"""No pair of inputs of a random network is further apart in the logits than its bound says."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .random_networks import HEADS, STEPS
from .soundness import compare

networks = st.tuples(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=8),
    st.sampled_from(sorted(set(HEADS))),
    st.integers(0, 2**31),
)


def check(network: tuple[list[str], str, int]) -> None:
    outcome = compare(*network)
    assert outcome.broken == ()
    assert outcome.finite, "every op of these networks has a finite constant"


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(networks)
def test_no_pair_beats_the_bound(network: tuple[list[str], str, int]) -> None:
    check(network)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(networks)
def test_no_pair_beats_the_bound_in_ten_thousand(network: tuple[list[str], str, int]) -> None:
    check(network)
