"""Batch-size tuning: more images at once where a step is mostly what surrounds the network."""

from __future__ import annotations

from torch import Tensor, nn

from robcert.accel.benchmark import GLANCE, benchmark

_BUSY = {"cpu": 25e-3, "cuda": 2e-3}
"""Seconds: a pass that takes so long hides what of a step does not grow with the batch, a few milliseconds of Python on
a CPU and a few tenths of kernels in a graph."""
_MOST = 512


def tune_batch_size(network: nn.Module, x: Tensor, slots: int) -> int:
    """Return ``slots``, or two or four times as many where their forward and backward are still short.

    Restarts of one image may then run at once, of which those are in vain that run when another has broken it; on a
    network so small that costs less than half-filled batches do.

    Args:
        network: that is searched.
        x: (n, *shape), images, up to ``slots`` of them.
        slots: how many are held at once.
    """
    busy = _BUSY.get(x.device.type, 0.0)
    if not busy or not len(x) or 2 * slots > _MOST:
        return slots
    each = benchmark([network], x, GLANCE)[0] / len(x)
    while 2 * slots <= _MOST and 2 * slots * each <= busy:
        slots *= 2
    return slots
