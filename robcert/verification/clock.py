"""A limit in wall-clock seconds that holds whatever is computed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

_AGAIN = 0.1
"""Seconds after which an alarm that came at the wrong moment, or that something swallowed, sounds again."""

_CALLBACKS = ("__del__", "remove", "_remove")
"""Functions that Python calls on its own (destructors, callbacks of weak references) and whose exceptions are lost."""


class OutOfTime(BaseException):
    """The time is up. No `Exception`: what handles those of a network's export does not handle this one."""


@contextmanager
def limit(seconds: float) -> Generator[float]:
    """Raise `OutOfTime` in the block once so many seconds have passed; yields the deadline of `time.monotonic`.

    It takes effect between two operations of torch, perhaps where a block without gradients is entered or left: whether
    torch follows gradients is afterwards what it was before. In another thread than the main one, or where the system
    has no alarm (Windows), nothing is raised and the block has to look at the deadline itself.
    """
    deadline = time.monotonic() + seconds
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield deadline
        return

    over = False

    def sound(number: int, frame: Any) -> None:
        while frame is not None and frame.f_code.co_name not in _CALLBACKS:
            frame = frame.f_back
        if not over and frame is None:
            raise OutOfTime

    follows = torch.is_grad_enabled()
    before = signal.signal(signal.SIGALRM, sound)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), _AGAIN)
    try:
        try:
            yield deadline
        finally:
            over = True  # an alarm in this very line leaves the next one, which is far enough away
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        torch.set_grad_enabled(follows)
        signal.signal(signal.SIGALRM, before)
