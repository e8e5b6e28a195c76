"""Progress on stderr: a bar where stderr is a terminal, a line a leg where it is not."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from robcert.runs.plan import LegPlan
from robcert.runs.record import LegRecord
from robcert.runs.summary import as_list, opened
from robcert.search.stage import Stage
from robcert.text import plain, plain_lines

_APART = 0.1
"""Seconds between two looks that are shown: on a GPU the engine looks up a thousand times a second."""


def console_reporter() -> ConsoleReporter:
    """Return the reporter of a command, which writes to stderr."""
    return ConsoleReporter(Console(stderr=True, emoji=False, markup=False))


class ConsoleReporter:
    """Tells a person what happens. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None
        self.name = ""
        self.plan = LegPlan("", 0)
        self.shown = 0.0
        self.said: set[str] = set()

    def __enter__(self) -> ConsoleReporter:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def model(self, name: str, natural: int, n: int, resumed: int) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        self.name = plain(name)
        earlier = f"; {resumed} legs are finished already" if resumed else ""
        self.console.print(f"{self.name}: {natural} of {n} images right without any attack{earlier}", highlight=False)

    def leg(self, model: str, leg: LegPlan, work: int) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        self.plan = leg
        self._begin(f"{plain(model)} {leg}", work)

    def stage(self, eps: float, work: int) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        self._begin(f"{self.name} {self.plan} at eps {eps:g}", work)

    def _begin(self, what: str, work: int) -> None:
        if self.task is not None:
            self.progress.remove_task(self.task)
        self.task = self.progress.add_task(what, total=work, rate="")

    def synchronised(self, stage: Stage) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        steps = stage.stepper
        if steps.refused is not None:
            self._once(f"{self.name}: no CUDA graph, steps run one by one: {steps.refused}")
        if steps.fusing is not None:
            self._once(f"{self.name} {self.plan}: kernels fused, which took {steps.fusing:.0f} s to compile")
        if steps.unfused is not None:
            self._once(f"{self.name}: kernels not fused: {steps.unfused}")
        now = time.monotonic()
        if self.task is None or self.progress.disable or now - self.shown < _APART:
            return
        self.shown = now
        rate = stage.spent.backwards / stage.spent.seconds if stage.spent.seconds else 0.0
        # An attack in its slot counts by the share of a search step that it has spent, so the bar moves on long legs.
        self.progress.update(self.task, completed=round(stage.left + stage.running), rate=f"{rate:,.0f} iterations/s")

    def _once(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.console.print(plain_lines(text), highlight=False, soft_wrap=True)

    def leg_done(self, record: LegRecord) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        broke, open_ = ("/".join(map(str, as_list(one))) for one in (record.newly_broken, opened(record)))
        plan = LegPlan(record.attack, record.iterations, record.restarts)
        early = (
            f"; ended early: {record.finished} of {record.entered} images were attacked to the end"
            if record.finished is not None
            else ""
        )
        self.console.print(
            f"{self.name} {plan}: broke {broke} of {open_} open images in {record.seconds:.1f} s{early}",
            highlight=False,
            soft_wrap=True,
        )

    def note(self, text: str) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        self._once(f"{self.name}: {text}" if self.name else f"robcert: note: {text}")
