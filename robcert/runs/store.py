"""The one run store: a directory that survives kill -9 at any moment.

``run.json`` holds the spec. ``run.sqlite`` (write-ahead log) is the truth: one row per image and leg, finished
legs, and which state file is current. Tensors are in safetensors files, which are complete before a transaction
names them, so a reader either sees a checkpoint whole or the one before it.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from robcert.bracket import Bracket, Example, Provenance
from robcert.engine.snapshot import Snapshot
from robcert.errors import EvaluationError, UsageError, first_line
from robcert.files import refuse_links
from robcert.runs.files import explained, write_atomically
from robcert.runs.record import LegRecord, RunSpec
from robcert.runs.spec import difference, digest

_TABLES = """
CREATE TABLE IF NOT EXISTS legs (model INTEGER, leg INTEGER, record TEXT, notes TEXT, PRIMARY KEY (model, leg));
CREATE TABLE IF NOT EXISTS witnesses (
    model INTEGER, position INTEGER, leg INTEGER, distance REAL, found TEXT, file TEXT, row INTEGER,
    PRIMARY KEY (model, position, leg));
CREATE TABLE IF NOT EXISTS running (model INTEGER PRIMARY KEY, leg INTEGER, file TEXT);
CREATE TABLE IF NOT EXISTS serial (value INTEGER);
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT);
"""

_IN_PLACE = (".lock", "run.sqlite", "run.sqlite-wal", "run.sqlite-shm", "run.sqlite-journal")
"""Files of a run directory that are written without being renamed."""


@dataclass
class Progress:
    """What the store knows of one model: finished legs with their notes, and the leg that was running."""

    legs: list[LegRecord] = field(default_factory=list)
    notes: list[dict[str, list[int]]] = field(default_factory=list)
    snapshot: Snapshot | None = None


class RunStore:
    """Opens or creates a run directory for one spec, and holds it until `close`.

    Raises:
        UsageError: the directory holds a run of another spec (the difference is printed), or is not a run.
        EvaluationError: it cannot be written, or another process is using it.
    """

    def __init__(self, directory: Path, spec: RunSpec) -> None:
        self.directory = directory
        self.spec = spec
        self._saved: dict[tuple[int, int], Example] = {}  # by model and position
        with explained(directory):
            directory.mkdir(parents=True, exist_ok=True)
            refuse_links(directory, _IN_PLACE)
            self._lock = FileLock(directory / ".lock")
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise EvaluationError(
                    f"another process is using the run directory {directory}",
                    "Wait for it, or name another directory with --run DIR",
                ) from None
            try:
                self._claim()
                self._database = sqlite3.connect(directory / "run.sqlite", isolation_level=None)
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=FULL")
                self._database.execute("PRAGMA trusted_schema=OFF")
                _refuse_programs(self._database, directory)
                self._database.executescript(_TABLES)
            except BaseException:
                self._lock.release()
                raise

    def close(self) -> None:
        """Let go of the directory."""
        self._database.close()
        self._lock.release()

    def setting(self, key: str, value: str | None) -> str | None:
        """What was saved under ``key``; a value that is given is saved first."""
        with explained(self.directory):
            if value is not None:
                self._database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))
            found = self._database.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def progress(self, model: int, bracket: Bracket) -> Progress:
        """Everything saved about a model; its examples go into ``bracket``."""
        progress = Progress()
        with explained(self.directory):
            query = self._database.execute
            for record, notes in query("SELECT record, notes FROM legs WHERE model = ? ORDER BY leg", (model,)):
                progress.legs.append(LegRecord.model_validate_json(record))
                progress.notes.append(json.loads(notes))
            # Of every image the row of its closest example; ``bare column beside MIN`` takes that row in SQLite.
            rows = query(
                "SELECT position, MIN(distance), found, file, row FROM witnesses WHERE model = ? GROUP BY position",
                (model,),
            ).fetchall()
            shards: dict[str, Tensor] = {}
            for position, distance, found, file, row in rows:
                if file not in shards:
                    shards[file] = _read(self._member(file)).tensors["x"]
                how: dict[str, Any] = json.loads(found)
                label = how.pop("label")
                example = Example(shards[file][row].clone(), distance, label, Provenance(**how))
                bracket.update(position, example)
                self._saved[model, position] = example
            running = query("SELECT leg, file FROM running WHERE model = ?", (model,)).fetchone()
            if running is not None and running[0] == len(progress.legs):
                progress.snapshot = _read(self._member(running[1]))
        return progress

    def checkpoint(self, model: int, leg: int, bracket: Bracket, snapshot: Snapshot) -> None:
        """Save a running leg."""
        with explained(self.directory):
            serial = self._next_serial()
            file = f"state-{model}-{serial}.safetensors"
            _write(self.directory / file, snapshot)
            found, shard = self._shard(model, leg, serial, bracket)
            with _transaction(self._database) as execute:
                self._keep(execute, model, leg, shard, found)
                execute("INSERT OR REPLACE INTO running VALUES (?, ?, ?)", (model, leg, file))
            self._sweep(f"state-{model}-*.safetensors", {file})

    def finish_leg(
        self, model: int, leg: int, bracket: Bracket, record: LegRecord, notes: dict[str, list[int]]
    ) -> None:
        """Save a finished leg; its state is no longer needed."""
        with explained(self.directory):
            found, shard = self._shard(model, leg, self._next_serial(), bracket)
            with _transaction(self._database) as execute:
                self._keep(execute, model, leg, shard, found)
                execute(
                    "INSERT OR REPLACE INTO legs VALUES (?, ?, ?, ?)",
                    (model, leg, record.model_dump_json(), json.dumps(notes)),
                )
                execute("DELETE FROM running WHERE model = ?", (model,))
            self._sweep(f"state-{model}-*.safetensors", set())

    def write_tensors(self, name: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Save named tensors as ``name`` in the run directory."""
        with explained(self.directory):
            _write(self.directory / name, Snapshot(tensors, meta))

    def write_text(self, name: str, text: str) -> None:
        """Save a text as ``name`` in the run directory."""
        with explained(self.directory):
            write_atomically(self.directory / name, lambda path: path.write_text(text, encoding="utf-8"))

    def _claim(self) -> None:
        path = self.directory / "run.json"
        if not path.exists():
            foreign = [p.name for p in self.directory.iterdir() if not p.name.startswith(".")]
            if foreign:
                raise UsageError(
                    f"{self.directory} is not empty and holds no run ({foreign[0]}, ...)",
                    "Name a new directory with --run DIR",
                )
            self.write_text("run.json", json.dumps({"schema": "robcert.spec/1", **self.spec.model_dump()}, indent=2))
            return
        saved = read_spec(self.directory)
        if digest(saved) != digest(self.spec):
            lines = "\n".join(f"  {line}" for line in difference(saved, self.spec))
            raise UsageError(
                f"{self.directory} holds a run of another specification:\n{lines}",
                "Give the same options to continue it, or name another directory with --run DIR",
            )

    def _member(self, name: str) -> Path:
        """A file of the run directory that the database names."""
        if Path(name).name != name:
            raise EvaluationError(
                f"run.sqlite of the run directory {self.directory} names a file outside of it ({name!r})",
                "Remove the directory, or name another with --run DIR: the run begins anew",
            )
        return self.directory / name

    def _next_serial(self) -> int:
        (latest,) = self._database.execute("SELECT COALESCE(MAX(value), 0) FROM serial").fetchone()
        with _transaction(self._database) as execute:
            execute("DELETE FROM serial")
            execute("INSERT INTO serial VALUES (?)", (latest + 1,))
        return latest + 1

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
            _write(self.directory / file, Snapshot(tensors, {}))
        return found, file

    def _keep(self, execute: Any, model: int, leg: int, shard: str, found: dict[int, Example]) -> None:
        for row, (position, example) in enumerate(found.items()):
            how = json.dumps({**asdict(example.provenance), "label": example.label})
            execute(
                "INSERT OR REPLACE INTO witnesses VALUES (?, ?, ?, ?, ?, ?, ?)",
                (model, position, leg, example.distance, how, shard, row),
            )
            self._saved[model, position] = example

    def _sweep(self, pattern: str, keep: set[str]) -> None:
        for path in self.directory.glob(pattern):
            if path.name not in keep:
                path.unlink(missing_ok=True)


def read_spec(directory: Path) -> RunSpec:
    """The spec of a run directory.

    Raises:
        UsageError: it holds no run that can be read.
    """
    path = directory / "run.json"
    if not path.is_file():
        raise UsageError(f"{directory} is not a run directory: it has no run.json", "Runs lie below runs/ by default")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no table")
        content.pop("schema", None)
        return RunSpec.model_validate(content)
    except (ValueError, ValidationError) as error:
        raise UsageError(
            f"{path} cannot be read as a run of this version ({first_line(error)})",
            "Name another directory with --run DIR",
        ) from None


def _refuse_programs(database: sqlite3.Connection, directory: Path) -> None:
    """A database may hold statements that run when a row is written; robcert makes none."""
    found = database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone()
    if found is not None:
        raise EvaluationError(
            f"run.sqlite of the run directory {directory} holds a {found[0]} ({found[1]}), which robcert never writes",
            "Remove the directory, or name another with --run DIR: the run begins anew",
        )


class _transaction:
    """BEGIN IMMEDIATE ... COMMIT, rolled back on an error."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def __enter__(self) -> Any:
        self.database.execute("BEGIN IMMEDIATE")
        return self.database.execute

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.database.execute("COMMIT" if kind is None else "ROLLBACK")


def _write(path: Path, snapshot: Snapshot) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
    metadata = {"robcert": json.dumps(snapshot.meta)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def _read(path: Path) -> Snapshot:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            meta = json.loads((file.metadata() or {}).get("robcert", "{}"))
    except Exception as error:
        raise EvaluationError(
            f"{path} is missing or damaged ({error})", "Delete the run directory and run the command again"
        ) from None
    return Snapshot(tensors, meta)
