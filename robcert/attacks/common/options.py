"""Limits on options of attacks: out of range, an attack finds nothing, and that looks like robustness."""

from __future__ import annotations

import math
from collections.abc import Callable

from robcert.errors import UsageError

Rule = tuple[Callable[[float], bool], str]
"""Whether a finite number will do, and what it is to be, in words."""

POSITIVE: Rule = (lambda value: value > 0, "a positive number")
AT_LEAST_ZERO: Rule = (lambda value: value >= 0, "a number that is at least 0")
AT_LEAST_ONE: Rule = (lambda value: value >= 1, "a number that is at least 1")
COUNT: Rule = (lambda value: value >= 1, "a count, and at least one is needed")
BETWEEN: Rule = (lambda value: 0 < value < 1, "a share between 0 and 1")
UP_TO_ONE: Rule = (lambda value: 0 < value <= 1, "a share above 0 and at most 1")
SHARE: Rule = (lambda value: 0 <= value <= 1, "a share, at least 0 and at most 1")
GAP: Rule = (lambda value: 0 <= value < 1, "a relative gap, at least 0 and below 1")


def check_options(attack: object, **rules: Rule) -> None:
    """Hold options of an attack to their rules; None (by default) passes.

    Raises:
        UsageError: a value is not finite or breaks its rule.
    """
    for name, (holds, meaning) in rules.items():
        value = getattr(attack, name)
        if value is not None and not (math.isfinite(value) and holds(value)):
            raise UsageError(f"{_name_of(attack)}.{name} is {value:g}, but it is {meaning}")


def _name_of(attack: object) -> str:
    """Return the name that a plan calls it by."""
    from robcert.attacks import attacks

    return next((name for name, kind in attacks.items() if kind is type(attack)), type(attack).__name__)
