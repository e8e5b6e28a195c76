"""Plans as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robcert.attacks import attacks
from robcert.errors import UsageError
from robcert.runs.plan import NAMED, LegPlan, build, default_plan, parse_count, parse_plan, short, sweep
from robcert.types import BOUND_NORMS, ThreatNorm

legs = st.builds(LegPlan, st.sampled_from(attacks.names()), st.integers(1, 10**9), st.integers(1, 1000))


@given(plan=st.lists(legs, min_size=1, max_size=6), separator=st.sampled_from([",", " + ", " ", "+", ", "]))
def test_what_is_printed_is_read(plan: list[LegPlan], separator: str) -> None:
    assert parse_plan(separator.join(str(leg) for leg in plan)) == plan


@given(count=st.integers(1, 10**12))
def test_counts(count: int) -> None:
    assert parse_count(short(count)) == count
    assert parse_count(str(count)) == count


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("cw:100", [("cw", 100, 1)]),
        ("cw:100,1k,10K,1M", [("cw", 100, 1), ("cw", 1000, 1), ("cw", 10_000, 1), ("cw", 1_000_000, 1)]),
        ("cw:1kx10", [("cw", 1000, 10)]),
        ("cw:100,1k + pgd:100x5", [("cw", 100, 1), ("cw", 1000, 1), ("pgd", 100, 5)]),
        ("cw:100,1kx10,pgd:100x5,200", [("cw", 100, 1), ("cw", 1000, 10), ("pgd", 100, 5), ("pgd", 200, 1)]),
        ("cw:1e6", [("cw", 1_000_000, 1)]),
        ("pgd:1.5k", [("pgd", 1500, 1)]),
    ],
)
def test_cases(text: str, plan: list[tuple[str, int, int]]) -> None:
    assert parse_plan(text) == [LegPlan(*leg) for leg in plan]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "100",
        "cw",
        "cw:",
        "cw:0",
        "cw:-5",
        "cw:1.5",
        "cw:100x0",
        "cw:100x",
        "cw:1kk",
        "cw;100",
        "cw:nan",
        "cww:100",
        "cw:1e99",
    ],
)
def test_nonsense(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_plan(text)
    assert caught.value.found
    assert caught.value.do


def test_sweeps_rise() -> None:
    assert [leg.iterations for leg in sweep("cw", [10, 100, 1000], 3)] == [10, 100, 1000]
    for bad in ([10, 1000, 100], [10, 10], [1000, 100]):
        with pytest.raises(UsageError, match="out of order") as caught:
            sweep("cw", bad)
        ordered = ",".join(short(count) for count in sorted(set(bad)))
        assert caught.value.do == f"Write --iterations {ordered}"
    with pytest.raises(UsageError, match="at least once"):
        sweep("cw", [10], 0)
    with pytest.raises(UsageError, match="unknown attack"):
        sweep("wc", [10])


@pytest.mark.parametrize("norm", BOUND_NORMS)
@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_plans_work_in_every_norm(name: str, norm: ThreatNorm) -> None:
    plan = parse_plan(name, norm)
    assert plan == parse_plan(NAMED[name][norm])
    for leg in plan:
        build(leg, norm, {})


@pytest.mark.parametrize(
    ("norm", "plan"),
    [
        ("l2", [("apgd", 100, 1), ("apgd-t", 100, 9), ("fab-original", 100, 9), ("square", 5000, 1)]),
        ("linf", [("apgd", 100, 1), ("apgd-t", 100, 9), ("fab-original", 100, 9), ("square", 5000, 1)]),
        ("l1", [("apgd", 100, 5), ("apgd-t", 100, 5), ("fab-original", 100, 9)]),
    ],
)
def test_autoattack_is_its_standard_version(norm: ThreatNorm, plan: list[tuple[str, int, int]]) -> None:
    assert parse_plan("autoattack", norm) == [LegPlan(*leg) for leg in plan]


def backwards(plan: list[LegPlan]) -> int:
    """The most that a plan spends on an image that stands."""
    return sum(leg.iterations * leg.restarts * attacks.get(leg.attack).cost.backwards for leg in plan)


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_strong_costs_at_most_half_of_autoattack(norm: ThreatNorm) -> None:
    whole, ours, fast = (backwards(parse_plan(name, norm)) for name in ("autoattack", "strong", "fast"))
    assert ours <= whole / 2
    assert fast <= whole / 10


def test_the_default_plan_works_in_every_norm() -> None:
    assert default_plan("l2") == parse_plan("cw:100,1k + pgd:100x5")
    assert default_plan("linf") == parse_plan("cw:100,1k + pgd:100x5")
    assert all("l1" in attacks.get(leg.attack).norms for leg in default_plan("l1"))
