"""Benchmarks of a forward and backward: precision, layout, threads and batch size are chosen by the clock."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from robcert.accel.capture import Work, replayed
from robcert.network.batching import SMALLEST, power_of_two

GLANCE = 0.02
"""Seconds: about how long to see whether a step is fast or slow at all."""


def benchmark(networks: list[nn.Module], x: Tensor, seconds: float) -> list[float]:
    """Return the least seconds of a forward and (where there is one) a backward to ``x``, for each network, in turns.

    On a GPU it is replayed, as the steps of an attack are. Where it would take a large part of ``seconds``, fewer
    images are taken, and the time of all is extrapolated.
    """
    few = x[: _rows(networks[0], x, max(seconds / 4, GLANCE))]
    works = [replayed(_work(network, few), x.device) for network in networks]
    best = [float("inf")] * len(networks)
    end = time.monotonic() + seconds
    while True:
        for k, work in enumerate(works):
            _wait(x.device)
            began = time.monotonic()
            work()
            _wait(x.device)
            best[k] = min(best[k], time.monotonic() - began)
        if time.monotonic() >= end:
            return [one * len(x) / len(few) for one in best]


def _rows(network: nn.Module, x: Tensor, seconds: float) -> int:
    """Return the number of images (n, *shape) that take about so many seconds: 8, 16, 32, ... or all."""
    work, taken = _work(network, x[:SMALLEST]), 0.0
    for _ in range(2):  # the first one prepares what the others find
        _wait(x.device)
        began = time.monotonic()
        work()
        _wait(x.device)
        taken = time.monotonic() - began
    return power_of_two(int(SMALLEST * seconds / taken), len(x)) if SMALLEST * seconds < taken * len(x) else len(x)


def _work(network: nn.Module, x: Tensor) -> Work:
    def work() -> None:
        point = x.detach().requires_grad_(True)
        answer = network(point).logsumexp(dim=1).sum()
        if answer.requires_grad:
            torch.autograd.grad(answer, point)

    return work


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
