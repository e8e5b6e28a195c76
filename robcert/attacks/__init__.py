"""Attacks; one file an attack, each registered by its decorator."""

from __future__ import annotations

from robcert.attacks.protocol import Attack, Cost, Evaluation, Objective, Oracle, Problem
from robcert.registry import Registry

attacks: Registry[type[Attack]] = Registry("attack", "robcert.attacks")
"""Frozen dataclasses whose fields are the attack's options."""

attack = attacks.register

__all__ = ["Attack", "Cost", "Evaluation", "Objective", "Oracle", "Problem", "attack", "attacks"]
