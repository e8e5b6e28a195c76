"""Settings of the execution of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from robcert.runs.reporter import Reporter, Silent
from robcert.runs.stop_condition import StopCondition

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class Execution:
    """Settings that do not decide the result of a run.

    Attributes:
        directory: where the run is kept; None keeps it in memory.
        reporter: is told about progress.
        batch_size: the most images attacked at once; None lets their size decide.
        cpu_threads: None measures which number is fastest (a run that goes on keeps its number).
        checkpoint_seconds: how much work kill -9 may cost.
        enough: asked after the certificates and whenever an image was broken, for each model; what it answers ends the
            run of that model, which the same spec can take up again (`ModelRecord.stopped`).
    """

    directory: Path | None = None
    reporter: Reporter = field(default_factory=Silent)
    batch_size: int | None = None
    cpu_threads: int | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    enough: StopCondition | None = None
