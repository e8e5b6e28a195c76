"""Do more iterations still help? Paper A's central distinction, with an exact interval instead of an eye."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

from robcert.math.binomial import lower_bound, upper_bound

Shape = Literal["flat", "disputed", "falling", "undecided"]
_ORDER: tuple[Shape, ...] = ("flat", "undecided", "disputed", "falling")

FLAT = 0.01
"""Ten times the iterations may break at most this share of the open images for a sweep to be called flat."""
ENOUGH = 20
"""Of so many open images none may break: flat, though the exact bound on so few cannot reach 1 %."""


@dataclass(frozen=True)
class Outcome:
    """A finished leg at one budget: the number of images that were open when it began, and of those that it broke."""

    attack: str
    iterations: int
    restarts: int
    entered: int
    broken: int


@dataclass(frozen=True)
class Others:
    """Other attacks on the images that a sweep left open: their names, how many images, how many broke."""

    attacks: tuple[str, ...]
    entered: int
    broken: int


@dataclass(frozen=True)
class Plateau:
    """The verdict on a sweep.

    Attributes:
        shape: "flat" (more iterations no longer help, and no other attack disagrees), "disputed" (more iterations of
            this attack no longer help, but others broke what it left), "falling" or "undecided".
        since: iterations from which on nothing more was gained, where it is flat.
        attack, before, after: the comparison that decided: this attack at so many iterations and at more.
        entered, broken: open images before, and how many of them the longer leg broke.
        interval: one-sided exact 95 % bounds (lower, upper) on that share.
        needed: open images that would decide, where it is undecided (at the share seen).
        others: what other attacks did afterwards; None where none was run.
        restarts: of both legs that were compared.
    """

    shape: Shape
    since: int | None
    attack: str
    before: int
    after: int
    entered: int
    broken: int
    interval: tuple[float, float]
    needed: int | None = None
    others: Others | None = None
    restarts: int = 1


def judge(entered: int, broken: int, flat: float = FLAT) -> tuple[Shape, tuple[float, float]]:
    """Return flat, falling or undecided, with the one-sided exact 95 % bounds on the share that broke."""
    if entered == 0:
        return "flat", (0.0, 0.0)
    low, high = lower_bound(broken, entered), upper_bound(broken, entered)
    if high <= flat or (broken == 0 and entered >= ENOUGH):
        return "flat", (low, high)
    return ("falling" if low > flat else "undecided"), (low, high)


def images_that_decide(entered: int, broken: int, flat: float = FLAT, most: int = 10_000_000) -> int | None:
    """Return the number of open images that would decide, if the share that broke stays; None if no number would."""
    if broken == 0:
        return ENOUGH
    lower, upper = 1, 2
    while judge(entered * upper, broken * upper, flat)[0] == "undecided":
        lower, upper = upper, upper * 2
        if entered * upper > most:
            return None
    while upper - lower > 1:
        middle = (lower + upper) // 2
        decided = judge(entered * middle, broken * middle, flat)[0] != "undecided"
        lower, upper = (lower, middle) if decided else (middle, upper)
    return entered * upper


def plateau(outcomes: list[Outcome], flat: float = FLAT) -> Plateau | None:
    """Return the verdict on a sweep; None if no attack was run twice with at least ten times the iterations.

    Every attack is judged on its last comparison; where attacks disagree, the least settled verdict counts. A plateau
    is not an optimum: a flat sweep is disputed where other attacks, after it, broke more of what it left than ten times
    the iterations may. Attacks whose own sweep is flat count as settled and dispute nothing: theirs is the later word.
    """
    verdicts: list[tuple[Plateau, int]] = []
    for key in dict.fromkeys((outcome.attack, outcome.restarts) for outcome in outcomes):
        legs = [outcome for outcome in outcomes if (outcome.attack, outcome.restarts) == key]
        pairs = [(a, b) for a, b in itertools.pairwise(legs) if b.iterations >= 10 * a.iterations]
        if not pairs:
            continue
        before, after = pairs[-1]
        shape, interval = judge(after.entered, after.broken, flat)
        since = None
        for earlier, later in reversed(pairs):
            if judge(later.entered, later.broken, flat)[0] != "flat":
                break
            since = earlier.iterations
        needed = images_that_decide(after.entered, after.broken, flat) if shape == "undecided" else None
        found = Plateau(
            shape,
            since,
            after.attack,
            before.iterations,
            after.iterations,
            after.entered,
            after.broken,
            interval,
            needed,
            restarts=after.restarts,
        )
        verdicts.append((found, max(k for k, outcome in enumerate(outcomes) if outcome is after)))
    settled = {verdict.attack for verdict, _ in verdicts if verdict.shape == "flat"}
    judged = [_confront(verdict, outcomes[last + 1 :], settled, flat) for verdict, last in verdicts]
    return max(judged, key=lambda verdict: _ORDER.index(verdict.shape), default=None)


def _confront(verdict: Plateau, later: list[Outcome], settled: set[str], flat: float) -> Plateau:
    """Return the verdict of a sweep in the light of the other attacks after it."""
    others = [outcome for outcome in later if outcome.attack != verdict.attack]
    if not others:
        return verdict
    names = tuple(dict.fromkeys(outcome.attack for outcome in others))
    seen = Others(names, others[0].entered, sum(outcome.broken for outcome in others))
    verdict = replace(verdict, others=seen)
    unsettled = sum(outcome.broken for outcome in others if outcome.attack not in settled)
    dispute, interval = judge(seen.entered, unsettled, flat)
    if verdict.shape != "flat" or not unsettled or dispute == "flat":
        return verdict
    if dispute == "falling":
        return replace(verdict, shape="disputed", interval=interval)
    return replace(
        verdict, shape="undecided", interval=interval, needed=images_that_decide(seen.entered, unsettled, flat)
    )
