"""Time per gradient step of what is captured in a CUDA graph, fused or not, and of what is launched step by step."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from contender import Contender, Family, Missing, Setting
from contenders import peers
from measure import NORM, TINY, bare
from task import Task
from torch.fx.experimental.proxy_tensor import make_fx

from robcert.accel import capture
from robcert.accel.capture import recorder_for
from robcert.accel.fusion import inductor
from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks import attacks
from robcert.bracket import Bracket
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.types import Batch, Threat

ATTACKS: dict[str, Family] = {"pgd": "pgd linf", "cw": "cw l2", "apgd": "apgd linf", "ddn": "ddn l2"}
LONG = 1_000_000
LOOK = 10
"""Steps between two looks: numbers of steps are multiples of it."""

How = Literal["launched", "captured", "fused"]
"""Step by step from Python; in a CUDA graph; in a CUDA graph of kernels that a compiler fused."""
Key = tuple[str, How]
Timed = Callable[[int], float]
"""Seconds of a step, measured over so many or, where once-a-run costs are to be told apart, four times as many."""


class EnoughSeen(Exception):
    """The long leg has been watched for long enough."""


@dataclass(frozen=True)
class Row:
    """Seconds of a step, by round.

    Attributes:
        how: in which way its steps were taken.
        over: the time of a bare step in the same round.
        compiling: seconds that fusing took, once.
        refused: why they were not taken as asked for.
    """

    what: str
    batch: int
    how: How
    seconds: list[float]
    over: list[float]
    compiling: float | None = None
    refused: str | None = None

    @property
    def ratio(self) -> float:
        return statistics.median(self.over)


class Launched:
    """Records nothing: a replay does the work anew, launched from Python. What recorded work is compared with."""

    def rehearse(self, work: capture.Work) -> str | None:
        """Do the work."""
        work()
        return None

    def record(self, work: capture.Work) -> capture.Work:
        """The work itself."""
        return work

    def seconds(self, work: capture.Work) -> float:
        """Do the work; nobody asks what it took."""
        work()
        return 0.0


@dataclass(frozen=True)
class Long:
    """A leg of a million iterations on so many images, as far as it was watched."""

    images: int
    watched: int
    seconds: float
    how: How

    @property
    def hours(self) -> float:
        return self.seconds * LONG / 3600


def sized(task: Task, count: int, device: torch.device) -> Task:
    """The task on the device with so many images, the same ones again where it has fewer."""
    rows = torch.arange(count) % len(task.x)
    module = task.model.module.to(device)
    return replace(task, model=task.loaded(module), x=task.x[rows].to(device), y=task.y[rows].to(device))


def leg_over(task: Task, name: str, how: How, iterations: int = LONG) -> Stage:
    """One leg of robcert over all images at once, which none of them leaves before it ends."""
    n, kind, family = len(task.x), attacks.get(name), ATTACKS[name]
    options: dict[str, Any] = {"iterations": iterations}
    options |= {"search_steps": 1} if name == "cw" else {}
    options |= {"abort_early": False} if name in ("cw", "pgd") else {}
    images = Batch(task.x, task.y, torch.arange(n, device=task.x.device))
    search = SearchProblem(task.model, images, Bracket(images.index), Threat(NORM[family], (TINY,)), "decide")
    stepper = stepper_for(kind(**options), Networks(task.model.module), task.x.device)
    stepper.patience = 0
    if how == "launched" and task.x.device.type == "cuda":
        stepper.recorder = Launched()
    if how != "fused":
        stepper.compiler = None
    # What is recorded has 8, 16, 32, ... slots, and all are to be in them at once.
    return Stage(search, Work(name, list(range(n)), slots=1 << (n - 1).bit_length()), stepper)


def clocked(work: Callable[[], object], device: torch.device) -> float:
    """Wall seconds, with what the device has still to do."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def bare_loop(task: Task, how: How) -> Timed:
    """The bare loop. In a graph it has to work, since everything is compared with it."""
    device = task.x.device

    def step() -> None:
        bare(task, task.x)

    def steps() -> None:
        for _ in range(LOOK):
            step()

    if how != "launched":
        recorder = recorder_for(device)
        assert recorder is not None
        if how == "fused":
            graph = make_fx(lambda x: bare(task, x))(task.x)
            with torch.no_grad():
                kernels = inductor(graph, [task.x])
                kernels(task.x)

            @torch.no_grad()
            def step() -> None:
                kernels(task.x)

        if (reason := recorder.rehearse(steps)) is not None:
            raise SystemExit(f"the bare loop cannot be captured: {reason}")
        steps = recorder.record(steps)

    def timed(count: int) -> float:
        return clocked(lambda: [steps() for _ in range(count // LOOK)], device) / count

    return timed


def looks(leg: Stage) -> Timed:
    """A long leg: from one look to another, with all that happens at one. It goes on where it was the last time."""

    def work(count: int) -> None:
        for _ in range(count // leg.attack.period):
            leg.advance()
            leg.synchronise()

    def timed(count: int) -> float:
        return clocked(lambda: work(count), leg.problem.x.device) / count

    return timed


def whole(contender: Contender, task: Task) -> Timed:
    """Another library: a run of 3 n steps less one of n."""
    counted = task.counted()

    def run(steps: int) -> None:
        contender.run(counted, task, Setting(steps, 1, TINY, timing=True))

    def timed(count: int) -> float:
        short, long = (clocked(lambda k=k: run(k * count), task.x.device) for k in (1, 3))
        return (long - short) / (2 * count)

    return timed


def measured(
    task: Task, steps: int, rounds: int, with_peers: bool, tell: Callable[[str], None]
) -> tuple[list[Row], list[Missing]]:
    """Everything at one number of images, in turns. What the others are compared with comes first."""
    on_gpu = task.x.device.type == "cuda"
    ways: tuple[How, ...] = ("captured", "fused", "launched") if on_gpu else ("launched",)
    tell(f"batch {len(task.x)}: warming up")
    timed: dict[Key, Timed] = {("bare loop", how): bare_loop(task, how) for how in ways}
    legs: dict[Key, Stage] = {}
    for name, family in ATTACKS.items():
        for how in ways:
            key: Key = f"robcert {name}, {NORM[family]}", how
            legs[key] = leg_over(task, name, how)
            timed[key] = looks(legs[key])
    there, missing = peers(list(ATTACKS.values())) if with_peers else ([], [])
    for contender in there:
        if contender.timed:
            timed[f"{contender.library} {contender.label}, {contender.family}", "launched"] = whole(contender, task)
    for work in timed.values():
        work(2 * LOOK)
    seconds: dict[Key, list[float]] = {key: [] for key in timed}
    keys = list(timed)
    for number in range(rounds):
        tell(f"batch {len(task.x)}, round {number + 1} of {rounds}")
        turn = number % len(keys)
        for key in keys[turn:] + keys[:turn]:
            seconds[key].append(timed[key](steps))
    rows: list[Row] = []
    for key, taken in seconds.items():
        over = [mine / least for mine, least in zip(taken, seconds[keys[0]], strict=True)]
        own = legs[key].stepper if key in legs else None
        refused = (own.refused or (own.unfused if key[1] == "fused" else None)) if own else None
        rows.append(Row(key[0], len(task.x), key[1], taken, over, own.fusing if own else None, refused))
    return rows, missing


def million(task: Task, watched: int) -> Long:
    """The rate of a leg of a million cw iterations, after its first looks."""
    how: How = "fused" if task.x.device.type == "cuda" else "launched"
    leg = leg_over(task, "cw", how)
    times: list[float] = []

    def look(_: Stage) -> None:
        times.append(time.perf_counter())  # the engine has just read what it decides by, so the device is done
        if len(times) > 3 + watched // LOOK:
            raise EnoughSeen

    with contextlib.suppress(EnoughSeen):
        leg.run(look)
    if leg.stepper.refused or leg.stepper.unfused:
        how = "launched" if leg.stepper.refused else "captured"
    return Long(len(task.x), watched, (times[-1] - times[3]) / watched, how)
