"""The directory of a run of attacks: a row an image and leg, finished legs, and the current state."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robcert.bracket import Bracket, Example, Provenance
from robcert.runs.directory import RunDirectory, read_tensors, transaction, write_snapshot
from robcert.runs.files import explained
from robcert.runs.record import LegRecord, RunSpec
from robcert.search.snapshot import Snapshot

_TABLES = """
CREATE TABLE IF NOT EXISTS legs (model INTEGER, leg INTEGER, record TEXT, notes TEXT, PRIMARY KEY (model, leg));
CREATE TABLE IF NOT EXISTS examples (
    model INTEGER, position INTEGER, leg INTEGER, distance REAL, found TEXT, file TEXT, row INTEGER,
    PRIMARY KEY (model, position, leg));
CREATE TABLE IF NOT EXISTS running (model INTEGER PRIMARY KEY, leg INTEGER, file TEXT);
"""


@dataclass
class Progress:
    """The stored part of one model: finished legs with their notes, and the leg that was running."""

    legs: list[LegRecord] = field(default_factory=list)
    notes: list[dict[str, list[int]]] = field(default_factory=list)
    snapshot: Snapshot | None = None


class RunStore(RunDirectory):
    """The directory of a run of attacks: finished legs, examples, and the leg that is running.

    Raises:
        UsageError: see `RunDirectory`.
        EvaluationError: see `RunDirectory`.
    """

    tables = RunDirectory.tables + _TABLES

    def __init__(self, directory: Path, spec: RunSpec) -> None:
        self._saved: dict[tuple[int, int], Example] = {}  # by model and position
        super().__init__(directory, spec)

    def progress(self, model: int, bracket: Bracket) -> Progress:
        """Return everything saved about a model; its examples go into ``bracket``."""
        progress = Progress()
        with explained(self.directory):
            query = self._database.execute
            for record, notes in query("SELECT record, notes FROM legs WHERE model = ? ORDER BY leg", (model,)):
                progress.legs.append(LegRecord.model_validate_json(record))
                progress.notes.append(json.loads(notes))
            # Of every image the row of its closest example; ``bare column beside MIN`` takes that row in SQLite.
            rows = query(
                "SELECT position, MIN(distance), found, file, row FROM examples WHERE model = ? GROUP BY position",
                (model,),
            ).fetchall()
            shards: dict[str, Tensor] = {}
            for position, distance, found, file, row in rows:
                if file not in shards:
                    shards[file] = read_tensors(self._member(file)).tensors["x"]
                how: dict[str, Any] = json.loads(found)
                label = how.pop("label")
                example = Example(shards[file][row].clone(), distance, label, Provenance(**how))
                bracket.update(position, example)
                self._saved[model, position] = example
            running = query("SELECT leg, file FROM running WHERE model = ?", (model,)).fetchone()
            if running is not None and running[0] == len(progress.legs):
                progress.snapshot = read_tensors(self._member(running[1]))
        return progress

    def checkpoint(self, model: int, leg: int, bracket: Bracket, snapshot: Snapshot) -> None:
        """Save a running leg."""
        with explained(self.directory):
            serial = self._next_serial()
            file = f"state-{model}-{serial}.safetensors"
            write_snapshot(self.directory / file, snapshot)
            found, shard = self._shard(model, leg, serial, bracket)
            with transaction(self._database) as execute:
                self._keep(execute, model, leg, shard, found)
                execute("INSERT OR REPLACE INTO running VALUES (?, ?, ?)", (model, leg, file))
            self._sweep(f"state-{model}-*.safetensors", {file})

    def finish_leg(
        self, model: int, leg: int, bracket: Bracket, record: LegRecord, notes: dict[str, list[int]]
    ) -> None:
        """Save a finished leg; its state is no longer needed."""
        with explained(self.directory):
            found, shard = self._shard(model, leg, self._next_serial(), bracket)
            with transaction(self._database) as execute:
                self._keep(execute, model, leg, shard, found)
                execute(
                    "INSERT OR REPLACE INTO legs VALUES (?, ?, ?, ?)",
                    (model, leg, record.model_dump_json(), json.dumps(notes)),
                )
                execute("DELETE FROM running WHERE model = ?", (model,))
            self._sweep(f"state-{model}-*.safetensors", set())

    def _shard(self, model: int, leg: int, serial: int, bracket: Bracket) -> tuple[dict[int, Example], str]:
        """Write the examples, by position, that are not saved yet; the file is there if there are any."""
        found = {
            position: example
            for position, example in bracket.found().items()
            if example is not self._saved.get((model, position))
        }
        file = f"found-{model}-{leg}-{serial}.safetensors"
        if found:
            tensors = {"x": bracket.points(list(found)), "position": torch.tensor(list(found))}
            write_snapshot(self.directory / file, Snapshot(tensors, {}))
        return found, file

    def _keep(self, execute: Any, model: int, leg: int, shard: str, found: dict[int, Example]) -> None:
        for row, (position, example) in enumerate(found.items()):
            how = json.dumps({**asdict(example.provenance), "label": example.label})
            execute(
                "INSERT OR REPLACE INTO examples VALUES (?, ?, ?, ?, ?, ?, ?)",
                (model, position, leg, example.distance, how, shard, row),
            )
            self._saved[model, position] = example

    def _sweep(self, pattern: str, keep: set[str]) -> None:
        for path in self.directory.glob(pattern):
            if path.name not in keep:
                path.unlink(missing_ok=True)
