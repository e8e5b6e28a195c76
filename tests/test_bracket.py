"""What is known about images only ever narrows, and does not depend on who found it first."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import known

from robcert.bracket import Bracket, Certificate, Example, Provenance

ENDS = st.sampled_from([0.125, 0.25, 0.5, 1.0])  # few, so that they meet
EPS = (0.1, 0.125, 0.25, 0.3, 0.5, 1.0, 2.0)

examples = st.builds(
    Example,
    point=st.integers(0, 2).map(lambda k: torch.full((2,), float(k))),
    distance=ENDS,
    label=st.integers(0, 2),
    provenance=st.builds(
        Provenance, attack=st.sampled_from(["cw", "pgd"]), iterations=st.just(10), iteration=st.integers(0, 1),
        restart=st.integers(0, 1),
    ),
)  # fmt: skip
certificates = st.builds(
    lambda radius, more, method, evidence: Certificate(radius, radius + more, method, evidence),
    st.just(0.0) | ENDS, st.just(0.0) | ENDS, st.sampled_from(["gap", "crown"]), st.sampled_from(["", "pair"]),
)  # fmt: skip
findings = st.lists(st.tuples(st.integers(0, 3), examples | certificates), max_size=12)


@st.composite
def brackets(draw: st.DrawFn) -> Bracket:
    """About some of six images, in any order."""
    index = draw(st.lists(st.integers(0, 5), min_size=4, max_size=6, unique=True))
    wrong = draw(st.lists(st.booleans(), min_size=len(index), max_size=len(index)))
    bracket = Bracket(torch.tensor(index), torch.tensor(wrong))
    for position, found in draw(findings):
        bracket.update(position, found)
    return bracket


@given(brackets(), brackets(), brackets())
def test_merging_is_associative_commutative_and_idempotent(a: Bracket, b: Bracket, c: Bracket) -> None:
    assert known(a.merge(b).merge(c)) == known(a.merge(b.merge(c)))
    assert known(a.merge(b)) == known(b.merge(a))
    assert known(a.merge(a)) == known(a)
    assert set(a.merge(b).index.tolist()) == {*a.index.tolist(), *b.index.tolist()}


@given(brackets(), brackets())
def test_a_merged_bracket_has_the_better_end_of_both(a: Bracket, b: Bracket) -> None:
    both = a.merge(b)
    for position, index in enumerate(both.index.tolist()):
        parts = [(one, k) for one in (a, b) for k, other in enumerate(one.index.tolist()) if other == index]
        assert float(both.distance[position]) == min(float(one.distance[k]) for one, k in parts)
        assert float(both.radius[position]) == max(float(one.radius[k]) for one, k in parts)
        assert bool(both.wrong[position]) == any(bool(one.wrong[k]) for one, k in parts)


@given(brackets(), st.integers(0, 3), examples | certificates)
def test_an_update_never_widens(bracket: Bracket, position: int, found: Example | Certificate) -> None:
    distance, radius, before = bracket.distance.clone(), bracket.radius.clone(), known(bracket)
    kept = bracket.update(position, found)
    assert bool((bracket.distance <= distance).all())
    assert bool((bracket.radius >= radius).all())
    assert kept == (known(bracket) != before)
    assert kept == any(found is one for one in (bracket.examples[position], bracket.certificates[position]))
    others = [k for k in range(len(bracket)) if k != position]
    assert torch.equal(bracket.distance[others], distance[others])
    assert torch.equal(bracket.radius[others], radius[others])


@given(brackets())
def test_the_masks_are_the_ends(bracket: Bracket) -> None:
    for position, (example, certificate) in enumerate(zip(bracket.examples, bracket.certificates, strict=True)):
        assert float(bracket.distance[position]) == (math.inf if example is None else example.distance)
        assert float(bracket.radius[position]) == (0.0 if certificate is None else certificate.radius)
    assert list(bracket.found()) == bracket.distance.isfinite().nonzero().flatten().tolist()


@given(brackets())
def test_verdicts_are_monotone_in_eps(bracket: Bracket) -> None:
    """With the budget a right image goes from certified over open to broken, and a wrong one stays wrong."""
    agree = [k for k in range(len(bracket)) if k not in bracket.contradictions()]
    order = ["wrong", "certified", "open", "broken"]
    rows = [bracket.verdict(eps) for eps in EPS]
    for k in agree:
        ranks = [order.index(row[k]) for row in rows]
        assert ranks == sorted(ranks)
        assert ("wrong" in {row[k] for row in rows}) == all(row[k] == "wrong" for row in rows)


@given(brackets(), st.sampled_from(EPS))
def test_verdicts_are_what_the_masks_say(bracket: Bracket, eps: float) -> None:
    verdicts = bracket.verdict(eps)
    assert bracket.standing(eps).tolist() == [verdict in ("certified", "open") for verdict in verdicts]
    for k, verdict in enumerate(verdicts):
        example, certificate = bracket.examples[k], bracket.certificates[k]
        assert verdict != "broken" or (example is not None and example.distance <= eps)
        assert verdict != "certified" or (certificate is not None and certificate.radius > eps)


@given(brackets())
def test_a_contradiction_is_an_example_that_is_not_beyond_its_radius(bracket: Bracket) -> None:
    pairs = zip(bracket.examples, bracket.certificates, strict=True)
    assert bracket.contradictions() == [
        k for k, (example, certificate) in enumerate(pairs) if example and certificate
        and example.distance <= certificate.radius
    ]  # fmt: skip


@pytest.mark.parametrize(("distance", "contradicts"), [(0.5, True), (math.nextafter(0.5, 1.0), False)])
def test_an_example_at_the_radius_contradicts_and_one_beyond_does_not(distance: float, contradicts: bool) -> None:
    bracket = Bracket(torch.tensor([7]))
    bracket.update(0, Certificate(0.5, 0.5, "gap"))
    bracket.update(0, Example(torch.zeros(2), distance, 1, Provenance("pgd", 10, 3, 0)))
    assert bracket.contradictions() == ([0] if contradicts else [])


def test_the_first_of_two_equal_examples_is_kept() -> None:
    bracket = Bracket(torch.tensor([7]))
    first, second = (Example(torch.full((2,), k), 0.5, 1, Provenance("pgd", 10, 3, 0)) for k in (1.0, 0.0))
    assert bracket.update(0, first)
    assert not bracket.update(0, second)
    assert bracket.examples == [first]
