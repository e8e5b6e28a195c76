"""The saved state of a running stage, and its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robcert.errors import EvaluationError

FORMAT = 2
"""Of what `robcert.search.stage.Stage.snapshot` gives; a change of what it means is another number."""


@dataclass
class Spent:
    """The cost of a stage so far: forwards and backwards in images, wall seconds."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """All that a stage needs to go on: tensors by name, and the rest as JSON."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def check_format(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot of a stage, if it is one that this version of robcert reads.

    Raises:
        EvaluationError: another version wrote it.
    """
    if snapshot.meta.get("format") != FORMAT:
        raise EvaluationError(
            "the run was interrupted under another version of robcert, and what it kept of the unfinished attack "
            "cannot be read by this one",
            "Begin it anew: give another directory with --run",
        )
    return snapshot
