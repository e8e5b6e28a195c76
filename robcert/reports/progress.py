"""What a run tells a person while it goes on: a line on stderr for each model and leg, and notes.

The bars are those of `robcert.reports.display`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robcert.reports.display import stderr
from robcert.runs.plan import LegPlan
from robcert.runs.record import LegRecord
from robcert.runs.summary import as_list, opened
from robcert.search.stage import Stage
from robcert.text import plain, plain_lines

if TYPE_CHECKING:
    from rich.console import Console


def console_reporter() -> ConsoleReporter:
    """Return the reporter of a command, which writes to stderr."""
    return ConsoleReporter(stderr())


class ConsoleReporter:
    """Tells a person what happens. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.name = ""
        self.plan = LegPlan("", 0)
        self.said: set[str] = set()

    def __enter__(self) -> ConsoleReporter:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to close."""

    def model(self, name: str, natural: int, n: int, resumed: int) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        self.name = plain(name)
        legs = "1 leg is" if resumed == 1 else f"{resumed} legs are"
        earlier = f"; {legs} finished already" if resumed else ""
        self.console.print(f"{self.name}: {natural} of {n} images right without any attack{earlier}", highlight=False)

    def leg(self, model: str, leg: LegPlan, work: int) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        self.plan = leg

    def stage(self, eps: float, work: int) -> None:
        """See `robcert.runs.reporter.Reporter`."""

    def synchronised(self, stage: Stage) -> None:
        """See `robcert.runs.reporter.Reporter`."""
        steps = stage.stepper
        if steps.refused is not None:
            self._once(f"{self.name}: no CUDA graph, steps run one by one: {steps.refused}")
        if steps.fusing is not None:
            self._once(f"{self.name} {self.plan}: kernels fused, which took {steps.fusing:.0f} s to compile")
        if steps.unfused is not None:
            self._once(f"{self.name}: kernels not fused: {steps.unfused}")

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
