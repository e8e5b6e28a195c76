"""Executes a run: models one after the other, legs in the order of the plan, on images that are still open."""

from __future__ import annotations

import platform
from hashlib import sha256
from pathlib import Path

import numpy
import torch

from robcert import __version__
from robcert.accel.allocator import keep_memory
from robcert.accel.threads import fastest_threads, threads
from robcert.network.batching import default_slots
from robcert.runs.artefacts import all_stored
from robcert.runs.execution import Execution
from robcert.runs.interrupts import polite_interrupts
from robcert.runs.plan import build
from robcert.runs.record import ModelRecord, RunRecord, RunSpec, Versions
from robcert.runs.runner import Runner
from robcert.runs.spec import digest, legs_of
from robcert.runs.store import RunStore
from robcert.types import Dataset, LoadedModel

_FINISHED = "digest of the finished record"


def execute(models: list[LoadedModel], data: Dataset, spec: RunSpec, execution: Execution) -> RunRecord:
    """Run a spec to its end, from wherever an earlier run of it stopped.

    Args:
        models: the networks that the spec names, in its order.
        data: the images.
        spec: what to do.
        execution: how.

    Raises:
        UsageError: the directory holds another run; an attack does not fit.
        EvaluationError: the model answers NaN on clean images; the directory cannot be written.
        Interrupted: Ctrl-C, after saving.
    """
    for leg in legs_of(spec):
        build(leg, spec.threat.norm, spec.options)
    directory = execution.directory
    store = RunStore(directory, spec) if directory is not None else None
    try:
        if store is not None and (finished := _finished(store, spec)) is not None:
            for model in finished.models:
                execution.reporter.model(model.name, model.natural_correct, model.n, len(spec.plan))
            return finished
        keep_memory()
        slots = execution.batch_size or default_slots(data.x[0].numel() if len(data) else 1)
        count = _threads(store, models[0], data, slots, execution.cpu_threads)
        with threads(count), polite_interrupts() as interrupted:
            runner = Runner(data, spec, store, execution, slots, interrupted)
            record = _record(spec, data, directory, [])
            for number, model in enumerate(models):
                before = record.models

                def known(of_model: ModelRecord, before: list[ModelRecord] = before) -> None:
                    if store is not None:
                        so_far = _record(spec, data, directory, [*before, of_model])
                        store.write_text("record.json", so_far.to_json())

                record = _record(spec, data, directory, [*before, runner.model(number, model, known)])
        if store is not None and not any(model.stopped or model.missing for model in record.models):
            store.setting(_FINISHED, sha256(record.to_json().encode()).hexdigest())
        return record
    finally:
        if store is not None:
            store.close()


def _finished(store: RunStore, spec: RunSpec) -> RunRecord | None:
    """Return the record of a run that this version has brought to its end, with all that belongs to it."""
    digest_of_record, path = store.setting(_FINISHED, None), store.directory / "record.json"
    if digest_of_record is None or not path.is_file():
        return None
    text = path.read_bytes()
    if sha256(text).hexdigest() != digest_of_record or not all_stored(store, spec):
        return None
    record = RunRecord.model_validate_json(text)
    return record.model_copy(update={"run": str(store.directory)}) if record.versions == _versions() else None


def _versions() -> Versions:
    return Versions(
        robcert=__version__, torch=torch.__version__, numpy=numpy.__version__, python=platform.python_version()
    )


def _record(spec: RunSpec, data: Dataset, directory: Path | None, models: list[ModelRecord]) -> RunRecord:
    """The record of the models so far."""
    return RunRecord(
        spec_sha256=digest(spec),
        versions=_versions(),
        device=str(data.x.device),
        seed=spec.seed,
        goal=spec.goal,
        threat=spec.threat,
        data=spec.data,
        models=models,
        run=str(directory) if directory is not None else None,
    )


def _threads(store: RunStore | None, model: LoadedModel, data: Dataset, slots: int, asked: int | None) -> int:
    # A run that goes on keeps its number: the last bits of a sum can depend on it, and with them a whole search.
    kept = store.setting("threads", None if asked is None else str(asked)) if store else None
    if asked is not None or kept is not None:
        return int(asked or kept or 1)
    count = fastest_threads(model.module, data.x[:slots])
    if store:
        store.setting("threads", str(count))
    return count
