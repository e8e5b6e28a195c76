"""The most that an attack does with one image: what its progress and its cost are measured in."""

from __future__ import annotations

from robcert.attacks.protocol import Attack
from robcert.types import Goal


def most_evaluations(attack: Attack, goal: Goal) -> int:
    """Return the most evaluations of the network that an attack makes of one image, in one restart.

    An attack with search steps has its iterations for each of them, where it searches: with the goal "minimize", and
    some attacks to decide one budget too.
    """
    if getattr(attack, "single_step", False):
        return 2
    searches = goal == "minimize" or getattr(attack, "searches_to_decide", False)
    steps = attack.iterations * (int(getattr(attack, "search_steps", 1)) if searches else 1)
    return max(1, steps * attack.cost.forwards)


def work_of_evaluation(attack: Attack) -> float:
    """Return what an evaluation of an image costs, in forwards; a backward counts as two."""
    return (attack.cost.forwards + 2 * attack.cost.backwards) / max(1, attack.cost.forwards)
