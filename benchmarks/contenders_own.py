"""robcert's own attacks, through its engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from contender import Attack, Contender, Setting
from task import Counted, Task
from torch import Tensor

from robcert import __version__
from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks import attacks
from robcert.bracket import Bracket
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.types import Batch, Goal, Threat, ThreatNorm


def _robcert(
    name: str, norm: ThreatNorm, goal: Goal, counted: Counted, task: Task, setting: Setting, **extra: Any
) -> Tensor:
    options: dict[str, Any] = {"iterations": setting.steps, **extra}
    if name == "cw":
        options |= {"search_steps": setting.searches, "abort_early": False}
    if name == "pgd" and setting.timing:
        options |= {"abort_early": False}  # a step of those that are taken is what is timed
    n = len(task.x)
    images = Batch(task.x, task.y, torch.arange(n, device=task.x.device))
    bracket = Bracket(torch.arange(len(task.x)))
    search = SearchProblem(task.loaded(counted), images, bracket, Threat(norm, (setting.eps,)), goal)
    networks = Networks(counted.also(task.layout) or counted, counted.also(task.search))
    stepper = stepper_for(attacks.get(name)(**options), networks, task.x.device)
    leg = Stage(search, Work(name, list(range(n)), slots=n), stepper)
    leg.run()
    found = task.x.clone()
    for position, example in bracket.found().items():
        found[position] = example.point
    return found


def _decide(name: str, norm: ThreatNorm, **extra: Any) -> Attack:
    return lambda counted, task, setting: _robcert(name, norm, "decide", counted, task, setting, **extra)


def _cw(counted: Counted, task: Task, setting: Setting) -> Tensor:
    goal: Goal = "decide" if setting.timing else "minimize"
    return _robcert("cw", "l2", goal, counted, task, setting)


_OWN = (
    "through the engine: keeps the closest misclassified point of every image, watches for zero and "
    "non-finite gradients, has per-image counters and random streams, verifies every result in float32 and "
    "float64"
)


_WIDE = 2.0
"""eps of the timing of cw, minimize: most images break within it."""


def _ddn(counted: Counted, task: Task, setting: Setting) -> Tensor:
    wide = replace(setting, eps=_WIDE) if setting.timing else setting
    return _robcert("ddn", "l2", "minimize", counted, task, wide)


def own_attacks() -> list[Contender]:
    """robcert's attacks."""
    return [
        Contender("robcert", __version__, "pgd l2", "pgd", _OWN, _decide("pgd", "l2")),
        Contender("robcert", __version__, "pgd linf", "pgd", _OWN, _decide("pgd", "linf")),
        Contender("robcert", __version__, "cw l2", "cw", _OWN + "; first c and rate per image", _cw),
        Contender(
            "robcert",
            __version__,
            "cw l2",
            "cw, minimize",
            "as cw, on images that break: timed with the writes of better points and the final bisection",
            lambda counted, task, setting: _robcert("cw", "l2", "minimize", counted, task, replace(setting, eps=_WIDE)),
            judged=False,
        ),
        Contender("robcert", __version__, "apgd linf", "apgd, DLR", _OWN, _decide("apgd", "linf", objective="dlr")),
        Contender(
            "robcert",
            __version__,
            "ddn l2",
            "ddn",
            _OWN,
            _ddn,
        ),
    ]
