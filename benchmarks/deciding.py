"""Time to decide every image at one budget by the same sequence of attacks: what continuous refill and early exit give.

A peer attacks in one batch and a restart again; torchattacks drops the images that are broken between restarts, and
the loop here does it for foolbox and adv-lib too, so that nobody pays for images that are decided.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from contenders import Contender, Setting, peers
from rich.table import Table
from task import Task

from robcert import attack
from robcert.attacks.objectives import margin
from robcert.data import load_dataset
from robcert.math.norms import distance
from robcert.network import load_model
from robcert.types import Threat

RESTARTS, STEPS, EPS = 5, 100, 0.08
SEQUENCE = f"{RESTARTS} restarts of linf PGD with {STEPS} steps, eps {EPS}"
TARGET = 0.5


def decide_all(quick: bool, clock: Callable[[], float], rounds: int) -> list[tuple[Table, list[str]]]:
    """Seconds and broken images of robcert and each peer, on two zoo models."""
    table = Table(title=f"Time to decide all images: {SEQUENCE}")
    for column in ("model", "by", "seconds", "broken"):
        table.add_column(column, justify="left" if column in ("model", "by") else "right")
    lines: list[str] = []
    n = 16 if quick else 200
    contenders = [c for c in peers()[0] if c.family == "pgd linf"]
    for name in ("digits-plain", "digits-at"):
        model, data = load_model(name), load_dataset("digits", n=n)
        with torch.no_grad():
            right = model.module(data.x).argmax(1) == data.y
        task = Task(data.name, model, 0, 1.0, data.x[right], data.y[right])
        seconds: dict[str, list[float]] = {}
        broken: dict[str, int] = {}
        for _ in range(rounds):
            began = clock()
            record = attack(
                model,
                data,
                Threat("linf", (EPS,)),
                f"pgd:{STEPS}x{RESTARTS}",
                certify="none",
                cpu_threads=torch.get_num_threads(),
            )
            seconds.setdefault("robcert", []).append(clock() - began)
            broken["robcert"] = sum(image.status == "broken" for image in record.models[0].images)
            for contender in contenders:
                began = clock()
                broken[contender.library] = _peer(contender, task)
                seconds.setdefault(contender.library, []).append(clock() - began)
        middle = {library: statistics.median(values) for library, values in seconds.items()}
        for library, value in middle.items():
            table.add_row(name, library, f"{value:.2f}", str(broken[library]))
        table.add_section()
        if len(middle) > 1:
            fastest = min(value for library, value in middle.items() if library != "robcert")
            ratio = middle["robcert"] / fastest
            met = "met" if ratio <= TARGET else "NOT MET"
            lines.append(f"{met:8} {name}: {ratio:.2f} of the fastest peer (at most {TARGET})")
    return [(table, lines)]


def _peer(contender: Contender, task: Task) -> int:
    """How many images it breaks; judged like everybody's, and only the rest is attacked again."""
    standing = torch.arange(len(task.x))
    for restart in range(RESTARTS):
        if not len(standing):
            break
        torch.manual_seed(restart)
        part = Task(task.data, task.model, 0, 1.0, task.x[standing], task.y[standing])
        found = contender.run(part.counted(), part, Setting(STEPS, 1, EPS, timing=False)).detach().clamp(0, 1)
        with torch.no_grad():
            fooled = margin(task.model.module(found), part.y) > 0
        standing = standing[~(fooled & (distance(found, part.x, "linf") <= EPS * (1 + 1e-5)))]
    return len(task.x) - len(standing)
