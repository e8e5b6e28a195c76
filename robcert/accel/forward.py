"""The network as the steps of an attack ask it: each slot in float32 or in low precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robcert.accel.precision import Lowered
from robcert.network.batching import multiple_of_eight, padded


@dataclass(frozen=True)
class Networks:
    """One network in the forms that a search asks.

    Attributes:
        exact: in float32, in the memory format that is faster here (`robcert.accel.layout`).
        low: a copy in low precision (`robcert.accel.precision`), or None.
    """

    exact: nn.Module
    low: Lowered | None = None


class Forward:
    """Logits of the slots of one batch.

    Args:
        networks: what is asked.
        low: (n,) bool, a mask of as many slots, all False.

    Attributes:
        exact: the float32 network.
        low: the slots that are answered in low precision.
        margin_error: by how much a margin in low precision may be off (`robcert.accel.precision.Lowered`).
        asked: the one network that all slots are answered by; None where some are answered by each.
        deferred: whether what is found in low precision is to wait until all steps are taken, since steps that are
            recorded cannot look which slots have found something.
    """

    def __init__(self, networks: Networks, low: Tensor) -> None:
        self.exact, self._low = networks.exact, networks.low
        self.margin_error = 0.0 if networks.low is None else networks.low.margin_error
        self.low = low
        self.asked: nn.Module | None = self.exact
        self.deferred = False

    @property
    def lowered(self) -> bool:
        """True where any slot is answered in low precision."""
        return self.asked is not self.exact

    def choose(self, low: Tensor) -> None:
        """Answer the slots ``low`` (n,) bool in low precision, and the others in float32."""
        assert self._low is not None
        self.low.copy_(low)
        # Once a step and not once a forward: on a device that is a wait for it.
        some, every = bool(low.any()), bool(low.all())
        self.asked = self._low if every else None if some else self.exact
        self.deferred = False

    def choose_all(self, low: bool) -> None:
        """Answer all slots in one precision, without waiting for a device; what low precision finds waits."""
        self.low.fill_(low)
        self.asked = self._low if low else self.exact
        self.deferred = low

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) of points (n, *shape)."""
        if self.asked is not None:
            return self.asked(x)
        assert self._low is not None
        low, high = self.low.nonzero().flatten(), (~self.low).nonzero().flatten()
        parts = [_some(self._low, x, low), _some(self.exact, x, high)]
        return torch.cat(parts)[torch.cat([low, high]).argsort()]

    def exact_rows(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return float32 logits (m, classes) of some rows (m,) int64 of points (n, *shape)."""
        return _some(self.exact, x, rows)


def _some(network: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
    return network(padded(x[rows], multiple_of_eight(len(rows), len(x))))[: len(rows)]
