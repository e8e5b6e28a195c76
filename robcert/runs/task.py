"""A run of certify, jacobian, detect or verify: finished parts are kept, and the same call goes on after any end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from robcert.accel.threads import threads
from robcert.runs.directory import RunDirectory
from robcert.runs.record import TaskSpec
from robcert.runs.records import Record
from robcert.runs.spec import data_record, model_specs
from robcert.search.snapshot import Snapshot
from robcert.types import Dataset, LoadedModel

BLOCK = 16
"""Images of a part: what kill -9 may cost."""


class Task:
    """The parts of one run.

    Args:
        store: the run directory; None keeps nothing, and all images are one part.
    """

    def __init__(self, store: RunDirectory | None) -> None:
        self.store = store

    def blocks(self, n: int) -> list[slice]:
        """Return the images of each part, in order."""
        if self.store is None:
            return [slice(0, n)]
        return [slice(first, min(first + BLOCK, n)) for first in range(0, n, BLOCK)]

    def part(self, key: str, make: Callable[[], Snapshot]) -> Snapshot:
        """Return a part as it was kept, or make and keep it."""
        if self.store is None:
            return make()
        kept = self.store.part(key)
        if kept is None:
            kept = make()
            self.store.keep_part(key, kept)
        return kept

    def tensors(self, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return a part that consists of named tensors, as it was kept, or make and keep it."""
        return self.part(key, lambda: Snapshot(make(), {})).tensors

    def finish(self, record: Record) -> None:
        """Keep the record."""
        if self.store is not None:
            self.store.write_text("record.json", record.to_json())


def batches(block: slice, size: int | None) -> list[slice]:
    """Return a block of images in batches of at most ``size``; in one where that is None."""
    step = size or max(1, block.stop - block.start)
    return [slice(at, min(at + step, block.stop)) for at in range(block.start, block.stop, step)]


@contextmanager
def task(
    command: Literal["certify", "jacobian", "detect", "verify"],
    directory: str | Path | None,
    models: Sequence[LoadedModel],
    data: Sequence[Dataset],
    options: dict[str, Any],
    cpu_threads: int | None = None,
) -> Generator[Task]:
    """Open a run, or go on with it.

    Args:
        command: whose run it is.
        directory: where it is kept; None keeps nothing.
        models: the networks.
        data: the images of each network.
        options: all else that decides the result, as JSON has it.
        cpu_threads: None leaves torch as it is; a run that goes on keeps its number.

    Raises:
        UsageError: the directory holds another run.
        EvaluationError: it cannot be written, or another process is using it.
    """
    store = None
    if directory is not None:
        spec = TaskSpec(
            command=command,
            data=[data_record(images) for images in data],
            models=model_specs(models),
            options=options,
        )
        store = RunDirectory(Path(directory), spec)
    try:
        if store is not None:
            kept = store.setting("threads", None if cpu_threads is None else str(cpu_threads))
            cpu_threads = cpu_threads or (None if kept is None else int(kept))
        with nullcontext() if cpu_threads is None else threads(cpu_threads):
            yield Task(store)
    finally:
        if store is not None:
            store.close()
