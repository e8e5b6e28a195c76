"""Parameters that must stay in a range: parametrisations that are folded away like those of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

# Between 0 and 1 in float32, and far enough from both for the logit to be finite and to have a gradient.
_EDGE = 2.0**-20
_SMALLEST = 2.0**-60
_LARGEST = 2.0**60


@runtime_checkable
class Ranged(Protocol):
    """A layer with parameters that must stay in a range."""

    def ranges(self) -> Mapping[str, nn.Module]:
        """The name of each such parameter and its parametrisation."""
        ...


class Positive(nn.Module):
    """t = exp(r), within [2^-60, 2^60]: neither 0 nor infinite, and so is 1 / t."""

    def forward(self, raw: Tensor) -> Tensor:
        """R -> t."""
        return raw.exp().clamp(_SMALLEST, _LARGEST)

    def right_inverse(self, t: Tensor) -> Tensor:
        """T -> r."""
        return t.clamp(_SMALLEST, _LARGEST).log()


class UnitInterval(nn.Module):
    """t = sigmoid(r), within [0, 1]; t of 0 or 1 can be fixed, but training does not begin at them."""

    def forward(self, raw: Tensor) -> Tensor:
        """R -> t."""
        return torch.sigmoid(raw)

    def right_inverse(self, t: Tensor) -> Tensor:
        """T -> r, for t moved off 0 and 1 by 2^-20."""
        return torch.logit(t, eps=_EDGE)
