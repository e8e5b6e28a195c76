"""The pure verdict: its error is computed by summing binomials, its early end by trying every way to go on."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom, multinomial

from robcert.math.binomial import sign_test
from robcert.math.exact import drop_bounds, least_that_reaches, most_that_excludes
from robcert.policy.verdict import PASSING, Drop, Share, convergence, judge, overall

_SIZES = (1, 5, 10, 20, 50, 59, 100, 200, 500, 1000, 10_000)
_SHARES = (0.01, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_OFF = 1e-12  # of a sum of doubles


def _mask(count: int, n: int) -> np.ndarray:
    return np.arange(n) < count


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_a_model_below_its_requirement_is_passed_with_at_most_the_asked_probability(confidence: float) -> None:
    """Summed, not trusted: P(Bin(n, p) >= pass_at) over true accuracies p below the requirement and sample sizes."""
    worst = 0.0
    for n, share in itertools.product(_SIZES, _SHARES):
        question = Share(n, share, confidence)
        for p in (share, *(share * k / 20 for k in range(20)), share - 1e-9):
            passed = float(binom.pmf(np.arange(question.pass_at, n + 1), n, p).sum())
            assert passed <= 1 - confidence + _OFF, (n, share, p)
            worst = max(worst, passed)
        for p in (share, *(share + (1 - share) * k / 20 for k in range(1, 21))):
            failed = float(binom.pmf(np.arange(0, question.fail_at + 1), n, p).sum())
            assert failed <= 1 - confidence + _OFF, (n, share, p)
    assert worst > 0.8 * (1 - confidence), "the bound is attained nearly: the test is exact, not merely cautious"


def test_thresholds_are_the_first_that_keep_the_error() -> None:
    for n, share in itertools.product(_SIZES, _SHARES):
        at = least_that_reaches(share, n, 0.95)
        if at <= n:
            assert (
                sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(at, n + 1)) <= 0.05
                if n <= 200
                else True
            )
        assert at == 0 or binom.sf(at - 2, n, share) > 0.05, "one image less would not show it"
        out = most_that_excludes(share, n, 0.95)
        assert out < at
        assert binom.cdf(out + 1, n, share) > 0.05


def _walk(n: int, share: float, legs: list[int], certified: int, natural: int) -> str:
    """The verdict of a run that is looked at after the certificates and after every image that a leg breaks."""
    question = Share(n, share, 0.95)
    standing = natural
    for leg in legs:
        for _ in range(leg):
            found = judge(question, _mask(certified, n), _mask(standing, n), finished=False)
            if found.settled:
                return found.grade
            standing -= 1
    return judge(question, _mask(certified, n), _mask(standing, n), finished=True).grade


def test_sequential_stopping_keeps_the_error() -> None:
    """Every outcome of a small run, with its probability: certified, broken by one of two legs, wrong, standing."""
    n, share = 12, 0.6
    worst = 0.0
    for certain, first, second, wrong in [
        (0.3, 0.2, 0.1, 0.1), (0.0, 0.3, 0.1, 0.0), (0.5, 0.2, 0.2, 0.0), (0.6, 0.0, 0.4, 0.0),
        (0.1, 0.05, 0.3, 0.05),
    ]:  # fmt: skip
        robust = 1 - first - second - wrong
        assert robust <= share + 1e-9
        law = multinomial(n, [certain, robust - certain, first, second, wrong])
        passed = 0.0
        for counts in _compositions(n, 5):
            grade = _walk(n, share, [counts[2], counts[3]], counts[0], n - counts[4])
            if grade in PASSING:
                passed += float(law.pmf(counts))
        assert passed <= 0.05 + _OFF
        # Stopping early changes no verdict, so the probability is that of the fixed sample, to the last digit.
        fixed = float(binom.sf(least_that_reaches(share, n, 0.95) - 1, n, robust))
        assert passed == pytest.approx(fixed, abs=1e-9)
        worst = max(worst, passed)
    assert worst > 0.01


def _compositions(n: int, parts: int) -> list[tuple[int, ...]]:
    bars = itertools.combinations(range(n + parts - 1), parts - 1)
    return [tuple(b - a - 1 for a, b in itertools.pairwise((-1, *places, n + parts - 1))) for places in bars]


def test_two_thousand_simulated_models() -> None:
    """Models at their limit or just below, attacked leg by leg: the share that passes is at most 5 %, within chance."""
    rng = np.random.RandomState(0)
    passed = 0
    for _ in range(2000):
        n = int(rng.choice([50, 200, 500]))
        share = float(rng.choice([0.6, 0.8, 0.9]))
        robust = rng.rand(n) < share - (0.02 * rng.rand() if rng.rand() < 0.5 else 1e-9)
        certified = int((robust & (rng.rand(n) < rng.rand())).sum())
        natural = n - int((~robust & (rng.rand(n) < 0.2)).sum())
        broken = natural - int(robust.sum())
        first = int(rng.randint(0, broken + 1))
        passed += _walk(n, share, [first, broken - first], certified, natural) in PASSING
    # P(Bin(2000, 0.05) > 130) is 0.001.
    assert passed <= 130
    assert passed > 0, "a gate that passes nothing would keep this as well"


@given(n=st.integers(1, 80), share=st.sampled_from(_SHARES), data=st.data())
def test_a_settled_verdict_is_the_verdict_of_every_end(n: int, share: float, data: st.DataObject) -> None:
    worst = data.draw(st.integers(0, n))
    best = data.draw(st.integers(worst, n))
    question = Share(n, share, data.draw(st.sampled_from([None, 0.9, 0.99])))
    found = judge(question, _mask(worst, n), _mask(best, n), finished=False)
    ends = {judge(question, _mask(worst, n), _mask(end, n), finished=True).grade for end in range(worst, best + 1)}
    if found.settled:
        assert ends == {found.grade}
    else:
        assert len(ends) > 1 or best == worst or ends <= {"empirical", "inconclusive"}


@given(
    before=st.lists(st.booleans(), min_size=1, max_size=40),
    limit=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    data=st.data(),
)
def test_a_settled_drop_is_the_verdict_of_every_end(before: list[bool], limit: float, data: st.DataObject) -> None:
    n = len(before)
    question = Drop(np.array(before), limit, data.draw(st.sampled_from([None, 0.9])))
    best = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    worst = best & np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    found = judge(question, worst, best, finished=False)
    between = best & (worst | np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))))
    if found.settled:
        assert judge(question, worst, between, finished=True).grade == found.grade


def test_the_error_of_the_drop_is_summed() -> None:
    """P(pass) for pairs whose true drop is the limit or more, over every outcome of (lost, won, rest)."""
    n, limit = 30, 0.1
    bounds = {(lost, won): drop_bounds(lost, won, n, 0.9) for lost in range(n + 1) for won in range(n + 1 - lost)}
    worst = 0.0
    for won in (0.0, 0.05, 0.2, 0.4):
        for lost in (won + limit, won + limit + 0.1):
            law = multinomial(n, [lost, won, 1 - lost - won])
            outcomes = np.array([(a, b, n - a - b) for a, b in bounds])
            weight = law.pmf(outcomes)
            passed = sum(w for w, (low, high) in zip(weight, bounds.values(), strict=True) if high <= limit)
            assert passed <= 0.1 + _OFF
            worst = max(worst, float(passed))
        law = multinomial(n, [won + limit, won, 1 - 2 * won - limit])
        failed = sum(w for w, (low, high) in zip(law.pmf(outcomes), bounds.values(), strict=True) if low > limit)
        assert failed <= 0.1 + _OFF
    assert worst > 0.0


def test_whole_data_is_counted_not_estimated() -> None:
    # 0.7 * 10 is 7.000000000000001 in floating point of some orders: seven of ten reach 0.7 exactly.
    question = Share(10, 0.7, None)
    assert (question.pass_at, question.fail_at) == (7, 6)
    assert [judge(question, _mask(0, 10), _mask(k, 10), True).grade for k in (6, 7)] == ["failed", "empirical"]
    assert Share(1000, 0.57, None).pass_at == 570
    assert Drop(_mask(100, 100), 0.07, None).shown(_mask(93, 100))
    assert Drop(_mask(100, 100), 0.07, None).excluded(_mask(92, 100))


def test_the_four_grades() -> None:
    question = Share(100, 0.8, 0.95)
    assert (question.pass_at, question.fail_at) == (87, 72)
    assert judge(question, _mask(87, 100), _mask(99, 100), False).grade == "proven"
    assert judge(question, _mask(0, 100), _mask(72, 100), False).grade == "failed"
    assert judge(question, _mask(0, 100), _mask(90, 100), True).grade == "empirical"
    assert judge(question, _mask(0, 100), _mask(80, 100), True).grade == "inconclusive"
    assert not judge(question, _mask(0, 100), _mask(90, 100), False).settled
    assert judge(question, _mask(75, 100), _mask(80, 100), False).settled, "neither end is left"
    assert overall(["proven", "empirical"]) == "empirical"
    assert overall(["failed", "inconclusive", "proven"]) == "failed"


def test_a_falling_sweep_is_not_converged() -> None:
    assert convergence("empirical", True, required=True) == "failed"
    assert convergence("empirical", None, required=True) == "inconclusive"
    assert convergence("empirical", False, required=True) == "empirical"
    assert convergence("empirical", True, required=False) == "empirical"
    assert convergence("proven", True, required=True) == "proven"


def test_the_number_that_would_decide_decides() -> None:
    for n, count, share in ((50, 45, 0.8), (100, 84, 0.8), (100, 78, 0.8), (20, 20, 0.99)):
        question = Share(n, share, 0.95)
        needed = question.needed(_mask(count, n))
        assert needed is not None
        scaled = Share(needed, share, 0.95)
        assert not scaled.fail_at < count * needed // n < scaled.pass_at
    assert Share(10, 0.8, 0.95).needed(_mask(8, 10)) is None, "at the requirement itself no sample decides"
    assert Share(100, 0.99, 0.95).needed(_mask(100, 100)) == 299


def test_mcnemar_is_the_sign_test() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 0) == pytest.approx(0.5**5)
    assert sign_test(3, 3) == pytest.approx(sum(comb(6, k) for k in range(3, 7)) / 64)


def test_drawing_without_replacement_only_lowers_the_error() -> None:
    """The sample is a part of the data: the count is hypergeometric, not binomial, and stratified at that."""
    for whole, n, share in itertools.product((500, 1000, 10_000), (50, 200, 450), (0.3, 0.6, 0.8, 0.9)):
        right = int(np.ceil(share * whole)) - 1  # the best model that violates the requirement
        at = least_that_reaches(share, n, 0.95)
        assert hypergeom.sf(at - 1, whole, right, n) <= 0.05
        # Two classes of equal size, drawn in proportion, one of them answered as well as that allows.
        easy = min(whole // 2, right)
        counts = np.convolve(
            hypergeom.pmf(np.arange(n // 2 + 1), whole // 2, easy, n // 2),
            hypergeom.pmf(np.arange(n - n // 2 + 1), whole // 2, right - easy, n - n // 2),
        )
        assert counts[at:].sum() <= 0.05 + _OFF
