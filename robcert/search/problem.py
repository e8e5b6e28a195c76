"""The problem that a search works on, and the work of one of its stages."""

from __future__ import annotations

from dataclasses import dataclass

from robcert.bracket import Bracket
from robcert.criteria import Criterion
from robcert.criteria.misclassified import MISCLASSIFIED
from robcert.search.oracle import Guard
from robcert.types import Batch, Goal, LoadedModel, Threat


@dataclass(frozen=True)
class SearchProblem:
    """A network, images, and what counts as success there.

    Attributes:
        model: the network; the verifier calls it as it was loaded.
        images: all images of the run, on the device.
        bracket: what is known about the images; a stage adds examples.
        threat, goal, seed: see `robcert.attacks.protocol.Problem`.
        criterion: what counts as success.
        guard: a detector that examples have to get past, or None.
    """

    model: LoadedModel
    images: Batch
    bracket: Bracket
    threat: Threat
    goal: Goal
    seed: int = 0
    criterion: Criterion = MISCLASSIFIED
    guard: Guard | None = None


@dataclass(frozen=True)
class Work:
    """The work of a stage.

    Attributes:
        attack: what a table calls the attack.
        entrants: positions of the images to attack.
        restarts: how often each is attacked.
        slots: the most images attacked at once.
        anew: every search begins as if no example were known, so that it notes its own near misses.
    """

    attack: str
    entrants: list[int]
    restarts: int = 1
    slots: int = 128
    anew: bool = False
