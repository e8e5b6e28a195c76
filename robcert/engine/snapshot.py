"""What a leg leaves behind to be taken up again, and what it has cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Spent:
    """What a leg has cost so far: forwards and backwards in images, wall seconds."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """All that a leg needs to go on: tensors by name, and the rest as JSON."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
