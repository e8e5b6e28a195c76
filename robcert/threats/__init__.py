"""Kinds of threats, one file a kind: the changes that an adversary may make to an image, and their distance.

Nothing heavy is imported here: the names of the kinds are looked up before torch is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robcert.registry import Registry

if TYPE_CHECKING:
    from robcert.threats.kind import ThreatKind

threats: Registry[type[ThreatKind]] = Registry("norm", "robcert.threats")
"""By the name that ``--norm`` takes, also of kinds that are no norm."""

threat = threats.register

__all__ = ["threat", "threats"]
