"""An attack that knows less has beaten others only where that is more than chance, counted both ways."""

from __future__ import annotations

import pytest
import torch

from robcert.math.binomial import sign_test
from robcert.runs.record import LegRecord
from robcert.runs.weaker_wins import weaker_wins

PLAIN = {"restarts": 1, "interval": (0.0, 1.0), "seconds": 0.0, "entered": 60}


def leg(attack: str, left: int, broke: int, iterations: int = 50, backwards: int = 9) -> LegRecord:
    return LegRecord(
        attack=attack, iterations=iterations, attacked_correct=left, newly_broken=broke, forwards=9,
        backwards=backwards, **PLAIN,  # type: ignore[arg-type]
    )  # fmt: skip


class Alone:
    """What each leg breaks alone; remembers what was asked."""

    def __init__(self, breaks: dict[int, set[int]]) -> None:
        self.breaks = breaks
        self.asked: list[int] = []

    def __call__(self, k: int, positions: list[int]) -> set[int]:
        self.asked.append(k)
        return self.breaks[k] & set(positions)


def found(
    broke: list[list[int]],
    alone: dict[int, set[int]],
    names: tuple[str, ...] = ("pgd", "square", "cw"),
    proven: int = 0,
) -> list[tuple[str, list[int]]]:
    left, legs = 100, list[LegRecord]()
    for name, positions in zip(names, broke, strict=True):
        left -= len(positions)
        legs.append(leg(name, left, len(positions), 1 if name == "fgsm" else 50, 0 if name == "square" else 9))
    seen = weaker_wins(legs, [{"broke": positions} for positions in broke], proven, Alone(alone))
    return [(one.name, one.positions) for one in seen]


@pytest.mark.parametrize("free", ["square", "fgsm"])
def test_against_the_strongest_and_both_ways(free: str) -> None:
    names, name = ("pgd", free, "cw"), {"square": "gradient-free-wins", "fgsm": "one-step-wins"}[free]
    theirs, won = list(range(20, 60)), list(range(8))
    every = set(theirs)
    # Nobody else breaks the eight, and the weaker attack breaks all of the others' too.
    assert found([theirs, won, []], {1: every, 2: set()}, names) == [(name, won)]
    # A later gradient attack of the run breaks four of them: four to none is chance.
    assert found([theirs, won, []], {1: every, 2: set(won[:4])}, names) == []
    # It breaks two: six to none is not.
    assert found([theirs, won, []], {1: every, 2: set(won[:2])}, names) == [(name, won[2:])]
    # Eight to seven: each misses what the other breaks.
    assert found([theirs, won, []], {1: set(theirs[7:]), 2: set()}, names) == []
    # Three of a few, as chance has it.
    assert found([theirs, won[:3], []], {1: every, 2: set()}, names) == []


def test_nobody_is_asked_in_vain() -> None:
    again = Alone({0: set(), 1: set(), 2: set()})
    legs = [leg("pgd", 60, 40), leg("square", 58, 2, backwards=0), leg("cw", 58, 0)]
    assert weaker_wins(legs, [{"broke": list(range(40))}, {"broke": [50, 51]}, {}], 0, again) == []
    assert 1 not in again.asked, "two images are chance whatever else is counted"
    legs = [leg("square", 60, 40, backwards=0), leg("pgd", 60, 0)]
    assert weaker_wins(legs, [{"broke": list(range(40))}, {}], 0, again) == []
    assert 0 not in again.asked, "it came first: nobody had left anything"


def test_what_is_said_is_what_was_counted() -> None:
    legs = [leg("pgd", 60, 40), leg("square", 50, 10, backwards=0)]
    (one,) = weaker_wins(
        legs, [{"broke": list(range(40))}, {"broke": list(range(50, 60))}], 0, Alone({1: set(range(38))})
    )
    assert "square:50 broke 10 images that no iterative gradient attack of the run (pgd:50) breaks" in one.message
    assert "misses 2 of the 40 that these broke" in one.message
    assert f"p = {sign_test(10, 2):.2g}" in one.message
    assert "masked" not in one.message


def test_the_sign_test() -> None:
    assert sign_test(5, 0) == pytest.approx(2**-5)
    assert sign_test(0, 0) == 1.0
    assert sign_test(3, 1) == pytest.approx(5 / 16)
    tosses = torch.rand(20000, 12, generator=torch.Generator().manual_seed(0)).lt(0.5).sum(dim=1)
    assert sign_test(9, 3) == pytest.approx(float((tosses >= 9).float().mean()), abs=0.01)
