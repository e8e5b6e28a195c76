"""A run directory of any command: a specification, settings and finished parts; it survives kill -9 at any moment.

``run.json`` holds the specification. ``run.sqlite`` (write-ahead log) is the truth. Tensors are in safetensors files,
which are complete before a transaction names them, so a reader either sees a part whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from robcert.errors import EvaluationError, UsageError, first_line
from robcert.files import refuse_links, write_atomically
from robcert.runs.files import explained
from robcert.runs.record import RunSpec, TaskSpec
from robcert.runs.spec import difference, digest
from robcert.search.snapshot import Snapshot

_TABLES = """
CREATE TABLE IF NOT EXISTS serial (value INTEGER);
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS parts (key TEXT PRIMARY KEY, file TEXT, sha256 TEXT);
"""

_IN_PLACE = (".lock", "run.sqlite", "run.sqlite-wal", "run.sqlite-shm", "run.sqlite-journal")
"""Files of a run directory that are written without being renamed."""


class RunDirectory:
    """Opens or creates a run directory for one spec, and holds it until `close`.

    Raises:
        UsageError: the directory holds a run of another spec (the difference is printed), or is not a run.
        EvaluationError: it cannot be written, or another process is using it.
    """

    tables = _TABLES

    def __init__(self, directory: Path, spec: RunSpec | TaskSpec) -> None:
        self.directory = directory
        self.spec = spec
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
                self._database.executescript(self.tables)
            except BaseException:
                self._lock.release()
                raise

    def close(self) -> None:
        """Let go of the directory."""
        self._database.close()
        self._lock.release()

    def setting(self, key: str, value: str | None) -> str | None:
        """Return what was saved under ``key``; a value that is given is saved first."""
        with explained(self.directory):
            if value is not None:
                self._database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))
            found = self._database.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def part(self, key: str) -> Snapshot | None:
        """Return the finished part of that name; None where there is none yet.

        Raises:
            EvaluationError: its file is missing, or not the one that was written: results rest on it.
        """
        with explained(self.directory):
            found = self._database.execute("SELECT file, sha256 FROM parts WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        path = self._member(found[0])
        if path.is_file() and _sha256(path) != found[1]:
            raise _damaged(path, "it is not what robcert wrote")
        return read_tensors(path)

    def keep_part(self, key: str, content: Snapshot) -> None:
        """Save a finished part."""
        with explained(self.directory):
            file = f"part-{self._next_serial()}.safetensors"
            write_snapshot(self.directory / file, content)
            with transaction(self._database) as execute:
                row = (key, file, _sha256(self.directory / file))
                execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", row)

    def write_tensors(self, name: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Save named tensors as ``name`` in the run directory."""
        with explained(self.directory):
            write_snapshot(self.directory / name, Snapshot(tensors, meta))

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
            self.write_text("run.json", json.dumps({"schema": "robcert.spec/2", **self.spec.model_dump()}, indent=2))
            return
        saved = read_any_spec(self.directory)
        if saved.command != self.spec.command:
            raise UsageError(
                f"{self.directory} holds a run of robcert {saved.command}, not of robcert {self.spec.command}",
                "Name another directory with --run DIR"
                + ("; a run of attacks is named with --attacks" if saved.command == "attack" else ""),
            )
        if saved.format < self.spec.format:
            raise UsageError(
                f"{self.directory} holds a run of an older version of robcert, which can be read but not gone on with",
                "Name another directory with --run DIR",
            )
        if digest(saved) != digest(self.spec):
            lines = "\n".join(f"  {line}" for line in difference(saved, self.spec))
            raise UsageError(
                f"{self.directory} holds a run of another specification:\n{lines}",
                "Give the same options to continue it, or name another directory with --run DIR",
            )

    def _member(self, name: str) -> Path:
        """Return a file of the run directory that the database names."""
        if Path(name).name != name:
            raise EvaluationError(
                f"run.sqlite of the run directory {self.directory} names a file outside of it ({name!r})",
                "Remove the directory, or name another with --run DIR: the run begins anew",
            )
        return self.directory / name

    def _next_serial(self) -> int:
        (latest,) = self._database.execute("SELECT COALESCE(MAX(value), 0) FROM serial").fetchone()
        with transaction(self._database) as execute:
            execute("DELETE FROM serial")
            execute("INSERT INTO serial VALUES (?)", (latest + 1,))
        return latest + 1


def read_any_spec(directory: Path) -> RunSpec | TaskSpec:
    """Return the specification of a run directory, whatever its command.

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
        if content.pop("schema", None) == "robcert.spec/1" and content.pop("version", None) is not None:
            content["format"] = 1  # runs of 0.1.0 have the version in place of a format
        kind = RunSpec if content.get("command", "attack") == "attack" else TaskSpec
        return kind.model_validate(content)
    except (ValueError, ValidationError) as error:
        raise UsageError(
            f"{path} cannot be read as a run of this version ({first_line(error)})",
            "Name another directory with --run DIR",
        ) from None


def read_spec(directory: Path) -> RunSpec:
    """Return the specification of a run of attacks.

    Raises:
        UsageError: the directory holds no such run that can be read.
    """
    spec = read_any_spec(directory)
    if isinstance(spec, TaskSpec):
        raise UsageError(f"{directory} holds a run of robcert {spec.command}, not of robcert attack")
    return spec


def _refuse_programs(database: sqlite3.Connection, directory: Path) -> None:
    """A database may hold statements that run when a row is written; robcert makes none."""
    found = database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone()
    if found is not None:
        raise EvaluationError(
            f"run.sqlite of the run directory {directory} holds a {found[0]} ({found[1]}), which robcert never writes",
            "Remove the directory, or name another with --run DIR: the run begins anew",
        )


class transaction:
    """BEGIN IMMEDIATE ... COMMIT, rolled back on an error."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def __enter__(self) -> Any:
        self.database.execute("BEGIN IMMEDIATE")
        return self.database.execute

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.database.execute("COMMIT" if kind is None else "ROLLBACK")


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write tensors and what belongs to them as one safetensors file, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
    metadata = {"robcert": json.dumps(snapshot.meta)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def read_tensors(path: Path) -> Snapshot:
    """Return what `write_snapshot` wrote.

    Raises:
        EvaluationError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            meta = json.loads((file.metadata() or {}).get("robcert", "{}"))
    except Exception as error:
        raise _damaged(path, str(error)) from None
    return Snapshot(tensors, meta)


def _damaged(path: Path, why: str) -> EvaluationError:
    return EvaluationError(
        f"{path} is missing or damaged ({why})", "Delete the run directory and run the command again"
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
