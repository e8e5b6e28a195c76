"""The two measurements: what a step costs, and what the steps are worth."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from contender import Contender, Family, Setting
from task import Counted, Task
from torch import Tensor
from torch.nn import functional as F

from robcert.criteria.misclassified import margin
from robcert.threats.kind import norm_of
from robcert.types import ThreatNorm

LIMITS: dict[Family, float] = {"pgd l2": 1.10, "pgd linf": 1.10, "cw l2": 1.25}
"""The most that a step of robcert may cost, in steps of the bare loop."""
NORM: dict[Family, ThreatNorm] = {
    "pgd l2": "l2",
    "pgd linf": "linf",
    "cw l2": "l2",
    "apgd linf": "linf",
    "ddn l2": "l2",
}
MINIMISING: tuple[Family, ...] = ("cw l2", "ddn l2")
"""Families that look for the closest example, so that no eps limits what they find."""
BUDGET: dict[Family, float] = {"pgd l2": 2.0, "pgd linf": 0.15, "cw l2": 3.0, "apgd linf": 0.15, "ddn l2": 3.0}
"""eps of the second measurement. cw and ddn minimise: 3.0 tells robcert's where to begin and limits no one."""
TINY = 1e-4
"""eps of the timing: nothing is broken within it, so every image stays in its slot to the last step."""


@dataclass(frozen=True)
class Timing:
    """Of every round: seconds of a step, of a bare step beside it, and of what happens once a run.

    The last is what comes before the first forward and after the last step: random starts, verification.
    """

    seconds: list[float]
    bare: list[float]
    once: list[float]

    @property
    def ratios(self) -> list[float]:
        return [step / beside for step, beside in zip(self.seconds, self.bare, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def once_ratio(self) -> float:
        return statistics.median(max(0.0, once / beside) for once, beside in zip(self.once, self.bare, strict=True))


@dataclass(frozen=True)
class Worth:
    """What an attack found (``broken``: image by image); ``gradients`` is the most gradient steps that an image got."""

    success: float
    median: float
    gradients: int
    broken: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Target:
    """A promise of robcert, what was measured, and whether it holds (None: nothing to compare with)."""

    what: str
    threads: int
    limit: float
    measured: float | None

    @property
    def met(self) -> bool | None:
        return None if self.measured is None else self.measured <= self.limit


@dataclass
class Row:
    """All about one contender: ``timings`` by the number of threads."""

    contender: Contender
    weight_gradients: bool
    timings: dict[int, Timing]
    worth: Worth | None = None


def bare(task: Task, at: Tensor) -> Tensor:
    """One step of the loop that nothing can undercut: the gradient at those points."""
    x = at.detach().requires_grad_(True)
    return torch.autograd.grad(F.cross_entropy(task.model.module(x), task.y, reduction="none").sum(), x)[0]


def timings(
    contenders: list[Contender],
    task: Task,
    rounds: int,
    steps: int,
    unfrozen: bool,
    clock: Callable[[], float],
    tell: Callable[[str], None],
) -> list[Timing]:
    """One timing a contender; in every round each of them runs once."""
    counters = [task.counted(unfrozen and c.library != "robcert", lambda x: bare(task, x)) for c in contenders]
    for counted in counters:
        counted.clock = clock
    setting = Setting(steps, 1, TINY, timing=True)
    rows: list[list[tuple[float, float, float]]] = [[] for _ in contenders]
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        # Every round begins with another contender, so that none always follows the same neighbour.
        for k in [(k + number) % len(contenders) for k in range(len(contenders))]:
            if number == 0:
                contenders[k].run(counters[k], task, replace(setting, steps=min(steps, 10)))  # warm up
            counters[k].forget()
            began = clock()
            contenders[k].run(counters[k], task, setting)
            rows[k].append(_round(counters[k], clock() - began))
    return [Timing(*(list(column) for column in zip(*row, strict=True))) for row in rows]


def _round(counted: Counted, seconds: float) -> tuple[float, float, float]:
    """Seconds of a step, seconds of a bare step, and seconds of all that is not a step."""
    step, beside = statistics.fmean(counted.steps), statistics.fmean(counted.besides)
    once = seconds - sum(counted.steps) - sum(counted.besides) - step  # the last step has no next one to end it
    return step, beside, once


def worth(contender: Contender, task: Task, steps: int, searches: int) -> Worth:
    """Judge what the attack returns, for all libraries alike: box, float64 distance, float32 answer."""
    counted = task.counted()
    eps = BUDGET[contender.family]
    torch.manual_seed(0)
    budget = steps if contender.family == "cw l2" else steps * searches
    adversarial = contender.run(counted, task, Setting(budget, searches, eps, timing=False)).detach().clamp(0, 1)
    norm = NORM[contender.family]
    far = norm_of(norm).distance(task.x.double(), adversarial.double())
    with torch.no_grad():
        fooled = margin(task.model.module(adversarial), task.y) > 0
    if contender.family not in MINIMISING:
        fooled &= far <= eps * (1 + 1e-5)  # libraries that do not verify land this far outside by rounding
    found: Tensor = torch.where(fooled, far, torch.full_like(far, float("inf")))
    return Worth(
        float(fooled.double().mean()),
        float(found.quantile(0.5, interpolation="higher")),
        counted.differentiated,
        tuple(fooled.tolist()),
    )


def targets(rows: list[Row], threads: int) -> list[Target]:
    """robcert's promises against what was measured with so many threads."""
    timing = {
        (row.contender.library, row.contender.family, row.contender.label): row.timings[threads]
        for row in rows
        if threads in row.timings
    }
    found = [
        Target(f"{family} over the bare loop", threads, limit, timing["robcert", family, family.split()[0]].ratio)
        for family, limit in LIMITS.items()
    ]
    mine = timing["robcert", "cw l2", "cw"].ratios
    theirs = timing.get(("adv-lib", "cw l2", "carlini_wagner_l2, defaults"))
    ratio = statistics.median(a / b for a, b in zip(mine, theirs.ratios, strict=True)) if theirs else None
    found.append(Target("cw l2 over adv-lib's", threads, 1.0, ratio))
    return found
