"""How many images at once: more of them where a step is mostly what surrounds the network."""

from __future__ import annotations

from torch import Tensor, nn

from robcert.engine.stopwatch import GLANCE, fastest

_BUSY = 25e-3
"""Seconds: a pass that takes so long hides the few milliseconds of a step that do not grow with the batch."""
_MOST = 512


def wide_enough(network: nn.Module, x: Tensor, slots: int) -> int:
    """``slots``, or two or four times as many where their pass forward and backward is still short.

    Only on a CPU, where the steps are not recorded. Restarts of one image may then run at once, of which those are in
    vain that run when another has broken it; on a network so small that costs less than half-filled batches do.

    Args:
        network: that is searched.
        x: (n, *shape), images, up to ``slots`` of them.
        slots: how many are held at once.
    """
    if x.device.type != "cpu" or not len(x) or 2 * slots > _MOST:
        return slots
    each = fastest([network], x, GLANCE)[0] / len(x)
    while 2 * slots <= _MOST and 2 * slots * each <= _BUSY:
        slots *= 2
    return slots
