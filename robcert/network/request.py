"""What is asked of an architecture when a network is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """A request for a network: all that is known when it is built.

    Attributes:
        name: of the architecture.
        input_shape: of one image.
        num_classes: that the network must have.
        guess: a number of classes to try where none is demanded.
        options: of the architecture.
        held: the names of the weights that are to be loaded.
    """

    name: str
    input_shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    guess: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    held: frozenset[str] = frozenset()
