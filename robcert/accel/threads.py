"""The number of CPU threads: one is faster for a small network, several times on a machine that is busy."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robcert.accel.benchmark import benchmark


def fastest_threads(module: nn.Module, x: Tensor, seconds: float = 0.1) -> int:
    """Return one thread or as many as torch would use, whichever is faster forward and backward with ``x`` (n, *shape).

    Args:
        module: the network.
        x: a batch of the size that the attack will use.
        seconds: about how long to try.
    """
    most = torch.get_num_threads()
    if most == 1 or x.device.type != "cpu":
        return most
    best = {1: float("inf"), most: float("inf")}
    for _ in range(2):  # in turns: another process may be there for a moment
        for count in best:
            with threads(count):
                best[count] = min(best[count], benchmark([module], x, seconds / 4)[0])
    return min(best, key=lambda count: best[count])


@contextmanager
def threads(count: int) -> Generator[None]:
    """Let torch use so many threads, then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
