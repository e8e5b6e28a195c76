"""What a contender of a benchmark is: one attack of one library, called with a network, images and a setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from task import Counted, Task
from torch import Tensor

Family = Literal["pgd l2", "pgd linf", "cw l2", "apgd linf", "ddn l2"]


@dataclass(frozen=True)
class Setting:
    """How long an attack runs and how far it may go.

    Attributes:
        steps: gradient steps; for cw, of one value of c.
        searches: cw: values of c.
        eps: pgd: the budget; robcert's cw takes it as the scale of the search.
        timing: everything stays in its slot to the last step (nothing can be broken within eps).
    """

    steps: int
    searches: int
    eps: float
    timing: bool


Attack = Callable[[Counted, Task, Setting], Tensor]
"""Returns the adversarial images (n, *shape); a clean image where nothing was found."""


@dataclass(frozen=True)
class Contender:
    """One attack of one library.

    Attributes:
        library: as it is installed.
        version: as it is installed.
        family: with which bare attack it is compared.
        label: what exactly is run.
        differs: what it does otherwise than the others.
        timed: whether its steps are timed (another constant makes no step faster).
        judged: whether what it finds is measured.
    """

    library: str
    version: str
    family: Family
    label: str
    differs: str
    run: Attack
    timed: bool = True
    judged: bool = True


@dataclass(frozen=True)
class Missing:
    """A library that is not there, and why."""

    library: str
    reason: str
