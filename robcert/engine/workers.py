"""How many workers a leg has: the cores of a CPU beside one another, or the GPUs of a machine."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robcert.engine.batching import SMALLEST
from robcert.engine.stopwatch import gradient, rows_for
from robcert.engine.threads import threads

_GAIN = 0.8
"""More workers must take at most this share of the time of fewer: smaller batches let go of rows less evenly."""


_SLOW = 0.3
"""Seconds."""


@dataclass(frozen=True)
class Workers:
    """How many, and the threads that those share which still have work; None: each has a GPU of its own."""

    count: int = 1
    cores: int | None = 1


def gpus(device: str) -> tuple[torch.device, ...]:
    """All GPUs that are visible, where "cuda" stands for several; else none to name."""
    if device != "cuda" or torch.cuda.device_count() < 2:
        return ()
    return tuple(torch.device("cuda", k) for k in range(torch.cuda.device_count()))


def fastest_workers(network: nn.Module, x: Tensor, cores: int, alone: int, seconds: float = 0.15) -> Workers:
    """One worker, or several with a part of the batch and of the cores each, whichever is faster.

    Args:
        network: that is searched.
        x: (n, *shape), images, as many as are attacked at once.
        cores: that may be used.
        alone: how many of them one worker makes use of; where more than one do not help it, nor do they help several.
        seconds: about how long to try each number.

    Returns:
        1, 2, 4, ... or ``cores`` workers; one where the network answers differently beside itself (a random one, or one
        that keeps what it computes), or cannot be asked so.
    """
    shared = cores if alone > 1 else 1
    numbers = [2**k for k in range(1, cores.bit_length()) if 2**k < cores] + [cores]
    numbers = [count for count in numbers if count > 1 and count * SMALLEST <= len(x)]
    if x.device.type != "cpu" or not numbers:
        return Workers()
    try:
        before = gradient(network, x[:SMALLEST])
        x = x[: max(rows_for(network, x, seconds), SMALLEST * cores)]
        best, least = 1, _seconds(network, x, 1, alone, seconds)
        for count in numbers:
            taken = _seconds(network, x, count, max(1, shared // count), seconds)
            if taken < _GAIN * least:
                best, least = count, taken
        with ThreadPoolExecutor(max(numbers)) as pool:
            beside = list(pool.map(lambda _: gradient(network, x[:SMALLEST]), range(2 * max(numbers))))
    except Exception:  # whatever a network does that knows of one thread only
        return Workers()
    size = float(before.abs().max()) + 2.0**-126
    same = all(float((one - before).abs().max()) <= 1e-3 * size for one in beside)
    return Workers(best, shared) if same else Workers()


def _seconds(network: nn.Module, x: Tensor, count: int, each: int, seconds: float) -> float:
    """The least seconds of a pass forward and backward by so many workers, with so many threads each."""
    parts = [x[k::count] for k in range(count)]

    def work(part: Tensor) -> None:
        if torch.get_num_threads() != each:
            torch.set_num_threads(each)
        gradient(network, part)

    best, end = float("inf"), time.monotonic() + seconds
    with threads(torch.get_num_threads()), ThreadPoolExecutor(count) as pool:
        for passes in itertools.count():
            began = time.monotonic()
            list(pool.map(work, parts))
            best = min(best, time.monotonic() - began)
            # The first pass prepares what the others find; beside a slow one that is nothing.
            if time.monotonic() >= end and (passes > 0 or best > _SLOW):
                break
    return best
