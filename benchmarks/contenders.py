"""The attacks that are compared: robcert's own, through its engine, and those of the libraries beside it.

Every contender is called the way its documentation shows, with the same module, images and number of gradient
steps; early stopping is off wherever a library has a switch for it, so that every step costs the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from contender import Contender, Family, Missing, Setting
from contenders_adv_lib import adv_lib_attacks
from contenders_art import art_attacks
from contenders_foolbox import foolbox_attacks
from contenders_own import own_attacks
from contenders_torchattacks import torchattacks_attacks
from task import Task

BASIC: tuple[Family, ...] = ("pgd l2", "pgd linf", "cw l2")
"""What overhead.py compares."""
FAMILIES: tuple[Family, ...] = (*BASIC, "apgd linf", "ddn l2")
"""What peers.py compares."""


def own(families: Sequence[Family] = FAMILIES) -> list[Contender]:
    """robcert's attacks."""
    return [contender for contender in own_attacks() if contender.family in families]


_PEERS: dict[str, Callable[[], list[Contender]]] = {
    "foolbox": foolbox_attacks,
    "torchattacks": torchattacks_attacks,
    "adv-lib": adv_lib_attacks,
    "ART": art_attacks,
}


def peers(families: Sequence[Family] = FAMILIES) -> tuple[list[Contender], list[Missing]]:
    """The attacks of every library that is installed, and the libraries that are not, with the reason."""
    there: list[Contender] = []
    missing: list[Missing] = []
    for library, build in _PEERS.items():
        try:
            there += [contender for contender in build() if contender.family in families]
        except Exception as error:  # an import can fail in many ways, and each is worth naming
            missing.append(Missing(library, f"{type(error).__name__}: {error}"))
    return there, missing


def computes_weight_gradients(contender: Contender, task: Task) -> bool:
    """Whether one step leaves gradients on weights that require them (robcert freezes what it loads)."""
    few = replace(task, x=task.x[:8], y=task.y[:8])
    counted = few.counted(unfrozen=True)
    contender.run(counted, few, Setting(steps=2, searches=1, eps=1e-3, timing=True))
    return any(p.grad is not None for p in counted.parameters())
