"""Targeted forms, under names of their own, so that a plan can hold both: ``pgd:100 + pgd-t:100x9``.

Restart r aims at the r-th most likely wrong class of the clean image, so ``x9`` tries nine classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from robcert.attacks import attack
from robcert.attacks.apgd import APGD
from robcert.attacks.cw import CW
from robcert.attacks.pgd import PGD


@attack("pgd-t")
@dataclass(frozen=True)
class TargetedPGD(PGD):
    """`PGD` towards one class."""

    targeted: bool = True


@attack("cw-t")
@dataclass(frozen=True)
class TargetedCW(CW):
    """`CW` towards one class."""

    targeted: bool = True


@attack("apgd-t")
@dataclass(frozen=True)
class TargetedAPGD(APGD):
    """`APGD` towards one class, on the ratio of logit differences (Croce & Hein 2020, section 4)."""

    objective: str = "dlr"
    targeted: bool = True
