"""Candidates of a search, verified: the closest point so far, and at the end of the search all that is left to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robcert.attacks.protocol import NEAR, Attack, Problem
from robcert.math.norms import per_image
from robcert.search.line_search import RESOLUTION, towards_clean
from robcert.search.near_miss_pgd import near_miss_pgd
from robcert.search.oracle import ModelOracle
from robcert.search.verifier import Verified, Verifier
from robcert.threats.kind import Norm


def climbs_near_misses(attack: Attack) -> bool:
    """Return whether near misses of the attack are starts of PGD: it takes gradients, and does not say otherwise."""
    return attack.cost.backwards > 0 and bool(getattr(attack, "climb_near_misses", True))


@dataclass(frozen=True)
class Outcome:
    """Of m slots: the closest point as verified, the evaluation (m,) that saw it, and the network calls of an ascent.

    ``calls`` are forwards and as many backwards, in images; the forwards of the verifier are counted by itself.
    """

    verified: Verified
    iteration: Tensor
    calls: int = 0


@dataclass(frozen=True)
class Finalisation:
    """Asks the verifier about what an oracle has noted and what an attack proposes."""

    attack: Attack
    verifier: Verifier

    def current(self, oracle: ModelOracle, problem: Problem, state: Any, at: Tensor) -> Outcome:
        """Verify what is noted of some slots (m,) int64 whose search goes on."""
        x, y = problem.x[at], problem.y[at]
        verified = Verified.nothing(x)
        # A point that the oracle did not note since the slot was filled belongs to nobody.
        seen = (oracle.found_at[at] > 0).nonzero().flatten()
        if len(seen):
            verified = verified.put(seen, self.verifier(oracle.nearest[at[seen]], x[seen], y[seen]))
        return Outcome(verified, oracle.found_at[at])

    def final(self, oracle: ModelOracle, problem: Problem, state: Any, at: Tensor) -> Outcome:
        """Verify the best that can be made of some slots (m,) int64 whose search has ended."""
        x, y = problem.x[at], problem.y[at]
        minimize = problem.goal == "minimize"
        outcome = self.current(oracle, problem, state, at)
        verified, iteration = outcome.verified, outcome.iteration
        if minimize:
            seen = (iteration > 0).nonzero().flatten()
            verified = verified.put(seen, self.verifier.beyond(verified.take(seen), x[seen], y[seen]))
        for candidate, when in self._untried(oracle, problem, state, at):
            # A gain below the resolution of the line search is not worth a forward.
            verified, closer = self.verifier.closer(verified, candidate, x, y, RESOLUTION if minimize else 0.0)
            iteration = torch.where(closer, when, iteration)
        if minimize:
            return Outcome(towards_clean(self.verifier, verified, x, y), iteration)
        verified, calls = self._climb_near_misses(verified, x, y)
        return Outcome(verified, iteration, calls * oracle.draws)

    def _untried(
        self, oracle: ModelOracle, problem: Problem, state: Any, at: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield points that the float32 network has not been asked about, and their evaluations."""
        known = oracle.unconfirmed_distance[at].isfinite()
        if bool(known.any()):
            points = oracle.unconfirmed[at]
            yield torch.where(per_image(known, points), points, float("nan")), oracle.unconfirmed_at[at]
        yield self.attack.proposal(problem, state)[at], oracle.evaluations[at]

    def _climb_near_misses(self, verified: Verified, x: Tensor, y: Tensor) -> tuple[Verified, int]:
        """Climb from near misses (`robcert.search.near_miss_pgd`); return what they became and the number of calls."""
        largest = self.verifier.threat.largest
        missed = (verified.distance > largest) & (verified.distance <= NEAR * largest)
        rows = missed.nonzero().flatten()
        able = climbs_near_misses(self.attack) and isinstance(self.verifier.threat.kind, Norm)
        if not len(rows) or not able or self.verifier.guard is not None:
            return verified, 0
        tried, steps = near_miss_pgd(self.verifier, verified.x[rows], x[rows], y[rows], self.attack.iterations)
        return verified.put(rows[tried.accepted], tried.take(tried.accepted)), steps * len(rows)
