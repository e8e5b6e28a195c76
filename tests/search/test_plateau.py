"""The plateau verdict: a pure function of counts, with exact bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from robcert.search.plateau import Outcome, images_that_decide, judge, plateau


@given(entered=st.integers(1, 3000), share=st.floats(0, 1), flat=st.sampled_from([0.001, 0.01, 0.1]))
def test_judge_is_the_rule_as_stated(entered: int, share: float, flat: float) -> None:
    broken = round(share * entered)
    shape, (low, high) = judge(entered, broken, flat)
    exact_low = binomtest(broken, entered, alternative="greater").proportion_ci(0.95, method="exact").low
    exact_high = binomtest(broken, entered, alternative="less").proportion_ci(0.95, method="exact").high
    assert (low, high) == pytest.approx((exact_low, exact_high), abs=1e-9)
    if (broken == 0 and entered >= 20) or high <= flat:
        assert shape == "flat"
    elif low > flat:
        assert shape == "falling"
    else:
        assert shape == "undecided"


@pytest.mark.parametrize(
    ("entered", "broken", "shape"),
    [
        (0, 0, "flat"),
        (19, 0, "undecided"),
        (20, 0, "flat"),
        (200, 0, "flat"),
        (200, 1, "undecided"),
        (1000, 3, "flat"),
        (100, 5, "falling"),
        (100, 4, "falling"),
        (10, 1, "undecided"),
        (10, 10, "falling"),
    ],
)
def test_cases(entered: int, broken: int, shape: str) -> None:
    assert judge(entered, broken)[0] == shape


@given(entered=st.integers(1, 300), broken=st.integers(0, 30))
def test_the_number_that_would_decide_does(entered: int, broken: int) -> None:
    broken = min(broken, entered)
    if judge(entered, broken)[0] != "undecided":
        return
    needed = images_that_decide(entered, broken)
    if needed is None:
        assert broken / entered == pytest.approx(0.01, rel=0.1), "only a share at the threshold decides nothing"
        return
    assert needed > entered
    if broken:
        times = needed // entered
        assert judge(needed, broken * times)[0] != "undecided"
        assert judge(needed - entered, broken * (times - 1))[0] == "undecided"


def sweep(*legs: tuple[int, int, int], attack: str = "cw", restarts: int = 1) -> list[Outcome]:
    return [Outcome(attack, iterations, restarts, entered, broken) for iterations, entered, broken in legs]


def test_flat_since_where_nothing_more_was_gained() -> None:
    verdict = plateau(sweep((100, 200, 50), (1000, 150, 20), (10_000, 130, 0), (100_000, 130, 0)))
    assert verdict is not None
    assert (verdict.shape, verdict.since, verdict.before, verdict.after) == ("flat", 1000, 10_000, 100_000)
    late = plateau(sweep((100, 200, 50), (1000, 150, 0), (10_000, 150, 20)))
    assert late is not None
    assert (late.shape, late.since) == ("falling", None)


def test_nothing_to_compare() -> None:
    assert plateau([]) is None
    assert plateau(sweep((100, 200, 50))) is None
    assert plateau(sweep((100, 200, 50), (500, 150, 0))) is None, "five times the iterations say too little"
    mixed = [*sweep((100, 200, 50)), *sweep((1000, 150, 0), attack="pgd")]
    assert plateau(mixed) is None, "another attack is no comparison"
    assert plateau([*sweep((100, 200, 50)), *sweep((1000, 150, 0), restarts=10)]) is None


def test_the_least_settled_attack_counts() -> None:
    flat, falling = sweep((100, 200, 0), (1000, 200, 0)), sweep((100, 200, 50), (1000, 150, 50), attack="pgd")
    undecided = sweep((100, 10, 0), (1000, 10, 0), attack="fab")
    for legs, shape in (
        (flat, "flat"),
        (flat + undecided, "undecided"),
        (undecided + flat, "undecided"),
        (falling + undecided + flat, "falling"),
    ):
        verdict = plateau(legs)
        assert verdict is not None
        assert verdict.shape == shape


def test_the_threshold_is_a_choice() -> None:
    legs = sweep((100, 100, 0), (1000, 100, 5))
    shapes = {flat: plateau(legs, flat) for flat in (0.01, 0.05, 0.2)}
    assert [verdict.shape for verdict in shapes.values() if verdict] == ["falling", "undecided", "flat"]


@pytest.mark.parametrize(
    ("broken", "shape"),
    [(0, "flat"), (1, "undecided"), (20, "disputed")],
)
def test_other_attacks_may_disagree(broken: int, shape: str) -> None:
    """A plateau is not an optimum: what a single leg of another attack breaks afterwards counts against it."""
    legs = [*sweep((100, 200, 50), (1000, 150, 0)), *sweep((100, 150, broken), attack="pgd")]
    verdict = plateau(legs)
    assert verdict is not None
    assert (verdict.shape, verdict.since) == (shape, 100)
    assert verdict.others is not None
    assert (verdict.others.attacks, verdict.others.entered, verdict.others.broken) == (("pgd",), 150, broken)


def test_who_came_before_or_has_a_flat_sweep_of_its_own_disputes_nothing() -> None:
    cw = sweep((100, 200, 50), (1000, 150, 0))
    before = plateau([*sweep((100, 300, 100), attack="pgd"), *cw])
    assert before is not None
    assert (before.shape, before.others) == ("flat", None)
    later = plateau([*cw, *sweep((100, 150, 20), (1000, 130, 0), attack="pgd")])
    assert later is not None
    assert later.shape == "flat", "the last word is a flat sweep"
    again = plateau([*cw, *sweep((100, 150, 20), (1000, 130, 0), attack="pgd"), *sweep((10, 130, 20), attack="fab")])
    assert again is not None
    assert again.shape == "disputed"
