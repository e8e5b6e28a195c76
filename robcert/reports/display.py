"""Progress on stderr: bars where it is a terminal, else a line now and then.

One thread looks at the work that goes on (`robcert.progress`): four times a second for bars; for lines after five
seconds, and then every thirty, so that nothing that takes long is silent, whatever it is at.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from robcert.progress import Work
from robcert.text import plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

FIRST, EVERY = 5.0, 30.0
"""Seconds until the first line, and between two lines, where there is no terminal."""
_BAR = 20


@cache
def stderr() -> Console:
    """Return the console of all that is told: lines that it prints stand above the bars."""
    from rich.console import Console

    return Console(stderr=True, emoji=False, markup=False, highlight=False)


class Display:
    """Shows the work of one command.

    Args:
        console: where; stderr by default, looked at when work begins.
        first, every: seconds until the first line and between lines, where the console is no terminal.
    """

    def __init__(self, console: Console | None = None, first: float = FIRST, every: float = EVERY) -> None:
        self._console = console
        self._first, self._every = first, every
        self._going: list[Work] = []
        self._lock = threading.Lock()
        self._loading: Work | None = None
        self._live: Any = None
        self._stop: threading.Event | None = None
        self._due = 0.0  # on the clock of `time.monotonic`: when the next line is printed, at the earliest

    def load(self, title: str) -> None:
        """Show that a command loads what it needs, until it begins its work or prints its results.

        Most commands that are wrong end within that time, and an error needs no line above it.
        """
        self._loading = Work(title)
        self._going.append(self._loading)
        self._open(self._every)

    def begin(self, work: Work) -> None:
        """See `robcert.progress.Listener`."""
        with self._lock:
            loaded = self._loading in self._going
            if loaded:
                self._going.clear()
            first = not self._going
            self._going.append(work)
        if loaded:
            self._close()
        if first:
            self._open(self._first)

    def end(self, work: Work) -> None:
        """See `robcert.progress.Listener`."""
        with self._lock:
            if work in self._going:
                self._going.remove(work)
            last = not self._going
        if last:
            self._close()

    def hush(self) -> None:
        """See `robcert.progress.Listener`."""
        with self._lock:
            self._going.clear()
        self._close()

    def _open(self, wait: float) -> None:
        console = self._console or stderr()
        if console.is_terminal:
            from rich.live import Live

            # What is printed to stdout while work goes on is a result, and stays out of the bars' hands.
            self._live = Live(
                console=console, get_renderable=self._bars, transient=True, refresh_per_second=4, redirect_stdout=False
            )
            self._live.start()
        else:
            self._stop, now = threading.Event(), time.monotonic()
            wait = max(self._due, now + wait) - now
            threading.Thread(target=self._lines, args=(console, self._stop, wait), daemon=True).start()

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def _lines(self, console: Console, stop: threading.Event, wait: float) -> None:
        while not stop.wait(wait):
            now, wait = time.monotonic(), self._every
            self._due = now + wait
            with self._lock:
                going = list(self._going)
            if going:
                console.print(line(going, now), soft_wrap=True, markup=False, highlight=False)

    def _bars(self) -> RenderableType:
        """Two lines for each piece of work: what it is, and a bar with how far it is."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            going = list(self._going)
        now = time.monotonic()
        shown: list[RenderableType] = []
        for work in going:
            shown.append(Text(plain(work.title), no_wrap=True, overflow="ellipsis"))
            share = _share(work, now)
            bar = ProgressBar(100, 100 * (share or 0), width=_BAR, pulse=share is None, animation_time=now - work.began)
            row = Table.grid(padding=(0, 1))
            row.add_row(bar, Text(numbers(work, now), no_wrap=True, overflow="ellipsis"))
            shown.append(row)
        return Group(*shown)


def line(going: list[Work], now: float) -> str:
    """Return one line on work and the work inside it."""
    return "; ".join(f"{plain(work.title)}: {numbers(work, now)}" for work in going)


def numbers(work: Work, now: float) -> str:
    """Return how far some work is: counted, noted, its rate, and the time that is left or went by."""
    share, left = _share(work, now), work.remaining(now)
    parts: list[str] = []
    if work.total is not None and work.unit:
        parts.append(f"{work.done:,.0f} of {work.total:,.0f} {work.unit}")
    elif share is not None:
        parts.append(f"{100 * share:.0f}%")
    parts += [work.note, work.rate or _rate(work, now)]
    parts.append(f"{duration(now - work.began)} so far" if left is None else f"{duration(left)} left")
    return ", ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """Return seconds as a person says them: 8 s, 4 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _share(work: Work, now: float) -> float | None:
    """Return how much of the work is done; by the time that is left, where the work tells it."""
    if work.left is not None:
        spent = now - work.began
        return spent / max(1e-9, spent + work.left)
    return None if not work.total else min(1.0, work.done / work.total)


def _rate(work: Work, now: float) -> str:
    spent = now - work.began
    if work.total is None or not work.unit or work.done <= 0 or spent < 1:
        return ""
    a_second = work.done / spent
    return f"{a_second:,.1f}/s" if a_second < 10 else f"{a_second:,.0f}/s"
