"""The detector of a network: a statistic and its threshold (paper E, section 7)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robcert.sensitivity.gradients import measure

_PAST = 1e-4
"""How far below the threshold an example must be to count as undetected, relative to it: room for rounding."""


@dataclass(frozen=True)
class Detector:
    """A network's detector: rejects images whose statistic exceeds the threshold."""

    module: nn.Module
    statistic: str
    threshold: float

    def values(self, x: Tensor) -> Tensor:
        """The statistic of every image, with the network's own answers as labels: (n,) float64 on the CPU."""
        return measure(self.module, x, None, (self.statistic,))[self.statistic].double().cpu()

    def rejects(self, values: Tensor) -> Tensor:
        """(n,) bool; a statistic that is NaN is rejected."""
        return ~(values <= self.threshold)

    def passes(self, x: Tensor) -> Tensor:
        """(n,) bool, on the device of ``x``: what an adversary has to reach (see `robcert.search.oracle.Guard`)."""
        return (self.values(x) <= self.threshold * (1 - _PAST)).to(x.device)
