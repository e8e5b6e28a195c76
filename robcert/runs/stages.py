"""The stages of a leg with several budgets: a search for the closest example, then one at each budget.

Whether a ball holds an example is another question than how close the closest is, and an attack answers it otherwise:
one with a fixed budget searches that ball with all its iterations, one that minimises scales its steps by the budget.
So after the search for the closest example each budget, from the smallest, is asked about as a run with that budget
alone asks (`Goal` "decide"), for images that are still open there and whose closest example is not far away.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from robcert.attacks.protocol import NEAR, Attack
from robcert.bracket import Bracket, Provenance
from robcert.search.expectation import draws_of
from robcert.search.finalisation import climbs_near_misses
from robcert.search.line_search import towards_clean
from robcert.search.near_miss_pgd import near_miss_pgd
from robcert.search.problem import SearchProblem
from robcert.search.snapshot import Snapshot, Spent
from robcert.search.stage import Stage
from robcert.search.verifier import Verifier
from robcert.types import Goal, Threat

NOTED = ("zero_gradient", "non_finite", "unconfirmed")

REACH = 1.5
"""An image is asked about at a budget where its closest example is at most so many budgets away: one that is farther
has been searched at distances in between, and asking again found next to nothing (`benchmarks/several_eps.py`)."""


@dataclass(frozen=True)
class StagePlan:
    """A question about the images: the goal, and the budgets."""

    goal: Goal
    threat: Threat

    def entrants(self, bracket: Bracket) -> list[int]:
        """Return the positions to attack: with "decide" the open ones, with "minimize" all that can still get closer.

        An image that is certified beyond the largest budget is never attacked.
        """
        return self._going(bracket).nonzero().flatten().tolist()

    def within_reach(self, bracket: Bracket) -> list[int]:
        """Return those whose closest example is nearer than `REACH` budgets, or that have none."""
        near = (bracket.distance <= REACH * self.threat.largest) | bracket.distance.isinf()
        return (self._going(bracket) & near).nonzero().flatten().tolist()

    def _going(self, bracket: Bracket) -> Tensor:
        largest = self.threat.largest
        going = ~bracket.wrong if self.goal == "minimize" else bracket.standing(largest)
        return going & ~bracket.certified(largest)


def stages(goal: Goal, threat: Threat) -> list[StagePlan]:
    """One stage for one budget; for several the search for the closest example, then one for each budget, ascending."""
    first = StagePlan(goal, threat)
    if len(threat.eps) == 1:
        return [first]
    return [first, *(StagePlan("decide", Threat(threat.norm, (eps,), threat.box)) for eps in threat.eps)]


@dataclass
class Done:
    """The outcome of the stages of a leg so far.

    Attributes:
        open: for each budget the positions that were open when the leg began.
        stages: how many have ended.
        entering: positions that the running stage attacks.
        entered: positions that were attacked.
        spent: what the stages that have ended took.
        noted: positions that they noted, by the names in `NOTED`.
    """

    open: list[list[int]]
    stages: int = 0
    entering: list[int] = field(default_factory=list[int])
    entered: set[int] = field(default_factory=set[int])
    spent: Spent = field(default_factory=Spent)
    noted: dict[str, set[int]] = field(default_factory=lambda: {name: set[int]() for name in NOTED})

    @classmethod
    def before(cls, snapshot: Snapshot) -> Done:
        """As it was when a stage was saved."""
        meta: dict[str, Any] = snapshot.meta["before"]
        return cls(
            open=meta["open"],
            stages=meta["stages"],
            entering=meta["entering"],
            entered=set(meta["entered"]),
            spent=Spent(**meta["spent"]),
            noted={name: set(found) for name, found in meta["noted"].items()},
        )

    def with_stage(self, running: Stage) -> Snapshot:
        """Return the snapshot of the running stage, with what went before it."""
        snapshot = running.snapshot()
        before: dict[str, Any] = {
            **vars(self),
            "entered": sorted(self.entered),
            "spent": dict(vars(self.spent)),
            "noted": {name: sorted(found) for name, found in self.noted.items()},
        }
        return Snapshot(snapshot.tensors, {**snapshot.meta, "before": before})

    def begin(self, entering: list[int]) -> None:
        """A stage attacks these positions."""
        self.entering = entering
        self.entered.update(entering)

    def note(self, stage: Stage) -> None:
        """Add what a stage has spent and noted."""
        self.pay(stage.spent)
        for name, found in self.noted.items():
            found.update(getattr(stage, name))

    def pay(self, spent: Spent) -> None:
        """Add to what it took."""
        self.spent.forwards += spent.forwards
        self.spent.backwards += spent.backwards
        self.spent.seconds += spent.seconds

    def notes(self, bracket: Bracket, largest: float) -> dict[str, list[int]]:
        """The signs, and under "broke" what the leg broke at the largest budget."""
        broke = [position for position in self.open[-1] if float(bracket.distance[position]) <= largest]
        return {**{name: sorted(found) for name, found in self.noted.items()}, "broke": sorted(broke)}


def climb_near_misses(search: SearchProblem, attack: Attack, name: str, positions: list[int], slots: int) -> Spent:
    """Climb from near misses of a run in the ball of the one budget of ``search`` (`robcert.search.near_miss_pgd`).

    Args:
        search: the model, the images, the one budget; examples that are found go into its bracket.
        attack: whose leg it is; its iterations limit the ascent.
        name: what a table calls the attack.
        positions: of images that are open at the budget.
        slots: the most images at once.

    Returns:
        What it took.
    """
    began, spent = time.monotonic(), Spent()
    bracket = search.bracket
    near = [p for p in positions if float(bracket.distance[p]) <= NEAR * search.threat.largest]
    if not climbs_near_misses(attack):
        return spent
    verifier = Verifier(search.model, search.threat, slots, criterion=search.criterion)
    draws = draws_of(search.model.module)
    for some in _chunks(near, slots):
        x, y = search.images.x[some], search.images.y[some]
        start = bracket.points(some).to(x.device)
        tried, steps = near_miss_pgd(verifier, start, x, y, attack.iterations)
        for row, position in enumerate(some):
            tried.offer(row, bracket, position, Provenance(name, attack.iterations, steps, 0))
        spent.forwards += steps * draws * len(some)
        spent.backwards += steps * draws * len(some)
    spent.forwards += verifier.forwards
    spent.seconds = time.monotonic() - began
    return spent


def bring_closer(search: SearchProblem, positions: list[int], slots: int) -> Spent:
    """Move the examples of some images towards the clean images (`robcert.search.line_search`).

    Returns:
        What it took.
    """
    began, bracket = time.monotonic(), search.bracket
    verifier = Verifier(search.model, search.threat, slots, criterion=search.criterion)
    for some in _chunks(positions, slots):
        x, y = search.images.x[some], search.images.y[some]
        found = verifier(bracket.points(some).to(x.device), x, y)
        closest = towards_clean(verifier, found, x, y)
        for row, position in enumerate(some):
            known = bracket.examples[position]
            assert known is not None
            closest.offer(row, bracket, position, known.provenance)
    return Spent(verifier.forwards, 0, time.monotonic() - began)


def _chunks(positions: list[int], size: int) -> list[list[int]]:
    return [positions[at : at + size] for at in range(0, len(positions), size)]
