"""Time per gradient step of what is captured in a CUDA graph, and of what is launched step by step."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from contender import Contender, Family, Missing, Setting
from contenders import peers
from measure import NORM, TINY, bare
from task import Task

from robcert.attacks import attacks
from robcert.engine.capture import Recorder, Work, recorder_for
from robcert.engine.leg import Leg
from robcert.engine.witnesses import Witnesses
from robcert.types import Batch, Threat

ATTACKS: dict[str, Family] = {"pgd": "pgd linf", "cw": "cw l2", "apgd": "apgd linf", "ddn": "ddn l2"}
LONG = 1_000_000
LOOK = 10
"""Steps between two looks: numbers of steps are multiples of it."""

Run = Callable[[int], "str | None"]
"""Takes so many steps; why they were not captured although that was asked for, or None."""
Key = tuple[str, bool]
"""What is timed, and whether it is to be captured."""


class Launched:
    """A recorder that records nothing: steps are launched one by one from Python."""

    def rehearse(self, work: Work) -> str | None:
        work()
        return "not asked for"

    def record(self, work: Work) -> Work:
        return work


class EnoughSeen(Exception):
    """The long leg has been watched for long enough."""


@dataclass(frozen=True)
class Row:
    """Seconds of a step, by round."""

    what: str
    batch: int
    captured: bool
    seconds: list[float]
    over: list[float]
    refused: str | None = None

    @property
    def ratio(self) -> float:
        return statistics.median(self.over)


@dataclass(frozen=True)
class Long:
    """A leg of a million iterations on so many images, as far as it was watched."""

    images: int
    watched: int
    seconds: float
    captured: bool

    @property
    def hours(self) -> float:
        return self.seconds * LONG / 3600


def sized(task: Task, count: int, device: torch.device) -> Task:
    """The task on the device with so many images, the same ones again where it has fewer."""
    rows = torch.arange(count) % len(task.x)
    module = task.model.module.to(device)
    return replace(task, model=task.loaded(module), x=task.x[rows].to(device), y=task.y[rows].to(device))


def leg_over(task: Task, name: str, family: Family, recorder: Recorder | None, **options: Any) -> Leg:
    """One leg of robcert over all images at once."""
    n, kind = len(task.x), attacks.get(name)
    images = Batch(task.x, task.y, torch.arange(n, device=task.x.device))
    return Leg(
        task.model,
        kind(**options),
        name,
        images,
        Witnesses(images.x),
        Threat(NORM[family], (TINY,)),
        "decide",
        seed=0,
        entrants=list(range(n)),
        restarts=1,
        slots=n,
        recorder=recorder,
    )


def clocked(work: Callable[[], object], device: torch.device) -> float:
    """Wall seconds, with what the device has still to do."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def captured_bare(task: Task) -> Work:
    """The bare loop's step in a graph. It has to work, since everything is compared with it."""
    recorder = recorder_for(task.x.device)
    assert recorder is not None

    def work() -> None:
        bare(task, task.x)

    if (reason := recorder.rehearse(work)) is not None:
        raise SystemExit(f"the bare loop cannot be captured: {reason}")
    return recorder.record(work)


def contenders(task: Task, with_peers: bool) -> tuple[dict[Key, Run], list[Missing]]:
    """Everything that is timed; what the others are compared with comes first."""
    on_gpu = task.x.device.type == "cuda"

    def loop(step: Work) -> Run:
        def run(steps: int) -> None:
            for _ in range(steps):
                step()

        return run

    def own(name: str, family: Family, recorder: Recorder | None) -> Run:
        extra = {"search_steps": 1} if name == "cw" else {}
        extra |= {"abort_early": False} if name in ("cw", "pgd") else {}

        def run(steps: int) -> str | None:
            leg = leg_over(task, name, family, recorder, iterations=steps, **extra)
            leg.run()
            return leg.steps.refused if recorder is None else None

        return run

    def other(contender: Contender) -> Run:
        counted = task.counted()

        def run(steps: int) -> None:
            contender.run(counted, task, Setting(steps, 1, TINY, timing=True))

        return run

    found: dict[Key, Run] = {("bare loop", True): loop(captured_bare(task))} if on_gpu else {}
    found["bare loop", False] = loop(lambda: bare(task, task.x))
    for name, family in ATTACKS.items():
        if on_gpu:
            found[f"robcert {name}, {NORM[family]}", True] = own(name, family, None)
        found[f"robcert {name}, {NORM[family]}", False] = own(name, family, Launched() if on_gpu else None)
    there, missing = peers(list(ATTACKS.values())) if with_peers else ([], [])
    for contender in there:
        if contender.timed:
            found[f"{contender.library} {contender.label}, {contender.family}", False] = other(contender)
    return found, missing


def measured(
    task: Task, steps: int, rounds: int, with_peers: bool, tell: Callable[[str], None]
) -> tuple[list[Row], list[Missing]]:
    """Everything at one number of images, in turns: (3 n steps less n steps) over 2 n."""
    device = task.x.device
    runs, missing = contenders(task, with_peers)
    refused = {key: run(3 * LOOK) for key, run in runs.items()}  # warm up
    seconds: dict[Key, list[float]] = {key: [] for key in runs}
    keys = list(runs)
    for number in range(rounds):
        tell(f"batch {len(task.x)}, round {number + 1} of {rounds}")
        turn = number % len(keys)
        for key in keys[turn:] + keys[:turn]:
            short, long = (clocked(lambda run=runs[key], k=k: run(k * steps), device) for k in (1, 3))
            seconds[key].append((long - short) / (2 * steps))
    rows: list[Row] = []
    for key, taken in seconds.items():
        over = [mine / least for mine, least in zip(taken, seconds[keys[0]], strict=True)]
        rows.append(Row(key[0], len(task.x), key[1], taken, over, refused[key]))
    return rows, missing


def million(task: Task, watched: int) -> Long:
    """The rate of a leg of a million cw iterations, after its first looks."""
    leg = leg_over(task, "cw", "cw l2", None, iterations=LONG, search_steps=1, abort_early=False)
    times: list[float] = []

    def look(_: Leg) -> None:
        times.append(time.perf_counter())  # the engine has just read what it decides by, so the device is done
        if len(times) > 3 + watched // LOOK:
            raise EnoughSeen

    with contextlib.suppress(EnoughSeen):
        leg.run(look)
    return Long(len(task.x), watched, (times[-1] - times[3]) / watched, leg.steps.recorder is not None)
