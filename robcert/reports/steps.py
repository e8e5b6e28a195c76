"""Work that is counted in steps, told to whoever listens (`robcert.progress`)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from robcert.progress import working


@contextmanager
def steps(title: str, total: int) -> Generator[Callable[[float], None]]:
    """Yield a function that is told how many more steps are done."""
    with working(title, total, "images") as work:
        yield work.advance
