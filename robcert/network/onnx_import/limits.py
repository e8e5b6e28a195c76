"""Limits of what a model file may ask for, checked before anything is allocated for it.

A few bytes can declare a tensor of 10^15 elements, a graph that doubles with every node, or an image of a terabyte.
The limits are far above every classifier of images that is in use, and far below what hurts a machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from robcert.errors import EvaluationError

MOST_ENTRIES = 2**24
"""Entries of one image: 3 x 2048 x 2048 is 2^23.6."""

MOST_ACTIVATIONS = 2**26
"""Entries of one tensor that is computed from one image; VGG at 224 x 224 has 2^21.6."""

MOST_CONSTANTS = 2**27
"""Entries of all tensors together that are computed from constants while a file is read."""

MOST_NODES = 20_000
"""Nodes, with functions written out; a ResNet has hundreds, a large transformer a few thousand. Reading one takes
about a millisecond."""

DEEPEST = 64
"""Functions that call functions, and branches in branches."""

MOST_BYTES = 2**31 - 1
"""Of an ONNX file with its external data: what protobuf can hold."""


def entries(shape: Iterable[int]) -> int:
    """Return the number of entries of a tensor of that shape."""
    return math.prod(max(0, int(size)) for size in shape)


def check(count: int, most: int, what: str) -> None:
    """Refuse what is larger than its limit.

    Raises:
        EvaluationError: it is.
    """
    if count > most:
        raise EvaluationError(
            f"{what} has {count:,} entries, more than the {most:,} that robcert allows",
            "Nothing was allocated for it. The limits are in robcert/network/onnx_import/limits.py.",
        )
