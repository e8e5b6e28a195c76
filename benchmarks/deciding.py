"""Time to decide every image at one budget by the same sequence of attacks: what continuous refill and early exit give.

A peer attacks in one batch and a restart again; torchattacks drops the images that are broken between restarts, and
the loop here does it for foolbox and adv-lib too, so that nobody pays for images that are decided.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from contender import Contender, Setting
from contenders import peers
from rich.table import Table
from task import Task

from robcert import attack
from robcert.criteria.misclassified import margin
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.threats.kind import norm_of
from robcert.types import Dataset, Threat

TARGET = 0.5
"""Of the fastest peer's time."""


@dataclass(frozen=True)
class Case:
    """A network, its images, and the linf PGD that decides them: restarts, steps, eps; and how often it is timed."""

    name: str
    task: Task
    restarts: int
    steps: int
    eps: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.name}: {self.restarts} x {self.steps} steps, eps {self.eps:.3g}"


def zoo_cases(n: int, rounds: int) -> list[Case]:
    """Two models of the zoo and the digits that they get right."""
    cases: list[Case] = []
    for name in ("digits-plain", "digits-at"):
        model, data = load_model(name), load_dataset("digits", n=n)
        with torch.no_grad():
            right = model.module(data.x).argmax(1) == data.y
        cases.append(Case(name, Task(data.name, model, 0, 1.0, data.x[right], data.y[right]), 5, 100, 0.08, rounds))
    return cases


def decide_all(cases: list[Case], clock: Callable[[], float]) -> tuple[Table, list[str]]:
    """Seconds and broken images of robcert and each peer."""
    table = Table(title="Time to decide all images with linf PGD")
    for column in ("case", "by", "seconds", "broken"):
        table.add_column(column, justify="left" if column in ("case", "by") else "right")
    lines: list[str] = []
    contenders = {c.library: c for c in peers(("pgd linf",))[0]}
    for case in cases:
        seconds: dict[str, list[float]] = {}
        broken: dict[str, int] = {}
        for number in range(case.rounds):
            names = ["robcert", *contenders]
            for name in names[number % len(names) :] + names[: number % len(names)]:
                began = clock()
                broken[name] = _robcert(case) if name == "robcert" else _peer(contenders[name], case)
                seconds.setdefault(name, []).append(clock() - began)
        middle = {name: statistics.median(seconds[name]) for name in ["robcert", *contenders]}
        for name, value in middle.items():
            table.add_row(str(case), name, f"{value:.2f}", f"{broken[name]} of {len(case.task.x)}")
        table.add_section()
        if contenders:
            ratio = middle["robcert"] / min(middle[name] for name in contenders)
            met = "met" if ratio <= TARGET else "NOT MET"
            lines.append(f"{met:8} {case.name}: {ratio:.2f} of the fastest peer (at most {TARGET})")
    return table, lines


def _robcert(case: Case) -> int:
    count = torch.arange(len(case.task.x))
    data = Dataset(
        case.task.data, "test", case.task.x, case.task.y, count, tuple(map(str, range(case.task.model.num_classes)))
    )
    record = attack(
        case.task.model,
        data,
        Threat("linf", (case.eps,)),
        f"pgd:{case.steps}x{case.restarts}",
        certify="none",  # a peer has none; threads, layout and precision are measured, as in every run
    )
    return sum(image.status == "broken" for image in record.models[0].images)


def _peer(contender: Contender, case: Case) -> int:
    """How many images it breaks; judged like everybody's, and only the rest is attacked again."""
    task = case.task
    standing = torch.arange(len(task.x))
    for restart in range(case.restarts):
        if not len(standing):
            break
        torch.manual_seed(restart)
        part = replace(task, x=task.x[standing], y=task.y[standing])
        found = contender.run(part.counted(), part, Setting(case.steps, 1, case.eps, timing=False)).detach().clamp(0, 1)
        with torch.no_grad():
            fooled = margin(task.model.module(found), part.y) > 0
        far = norm_of("linf").distance(part.x.double(), found.double())
        standing = standing[~(fooled & (far <= case.eps * (1 + 1e-5)))]
    return len(task.x) - len(standing)
