"""Sources of a report: run directories, and the json of other commands."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from robcert.errors import UsageError
from robcert.runs.directory import read_any_spec, read_spec
from robcert.runs.record import RunRecord, RunSpec, TaskSpec
from robcert.runs.records.certify import CertifyRecord
from robcert.runs.records.jacobian import JacobianRecord
from robcert.runs.records.norms import NormsRecord
from robcert.runs.records.verify import VerifyRecord
from robcert.runs.run_reader import read_record


@dataclass(frozen=True)
class Run:
    """A run of attacks: its record, and where it was stored its specification and its directory."""

    name: str
    record: RunRecord
    spec: RunSpec | None = None
    directory: Path | None = None


@dataclass(frozen=True)
class Sources:
    """All that was named, by kind."""

    runs: list[Run] = field(default_factory=list)
    certificates: list[tuple[str, CertifyRecord]] = field(default_factory=list)
    norms: list[tuple[str, NormsRecord]] = field(default_factory=list)
    jacobians: list[tuple[str, JacobianRecord]] = field(default_factory=list)
    answers: list[tuple[str, VerifyRecord]] = field(default_factory=list)


_KNOWN: dict[str, type[BaseModel]] = {
    "robcert.certify/1": CertifyRecord,
    "robcert.norms/1": NormsRecord,
    "robcert.jacobian/1": JacobianRecord,
    "robcert.verify/1": VerifyRecord,
}
_ADVICE = "Name run directories of robcert attack, or files of certify, verify, norms or jacobian with --format json"


def source_of(record: RunRecord | CertifyRecord | NormsRecord | JacobianRecord | VerifyRecord) -> Sources:
    """Return one record as what a report is made from, with its run directory where there is one."""
    if isinstance(record, RunRecord):
        directory = None if record.run is None else Path(record.run)
        spec = None if directory is None else read_spec(directory)
        return Sources(runs=[Run(record.run or "attack", record, spec, directory)])
    if isinstance(record, CertifyRecord):
        return Sources(certificates=[("certify", record)])
    if isinstance(record, NormsRecord):
        return Sources(norms=[("norms", record)])
    if isinstance(record, VerifyRecord):
        return Sources(answers=[("verify", record)])
    return Sources(jacobians=[("jacobian", record)])


def read_sources(paths: list[Path]) -> Sources:
    """Read run directories and json files.

    Raises:
        UsageError: one is neither, or of another version.
    """
    found = Sources()
    for path in paths:
        if path.is_dir() and isinstance(read_any_spec(path), TaskSpec):
            _read_json(path / "record.json", found)
            continue
        if path.is_dir():
            found.runs.append(Run(str(path), read_record(path), read_spec(path), path))
            continue
        _read_json(path, found)
    return found


def _read_json(path: Path, found: Sources) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})", _ADVICE) from None
    except ValueError as error:
        raise UsageError(f"{path} is no json ({error})", _ADVICE) from None
    schema = content.get("schema") if isinstance(content, dict) else None
    kind = _KNOWN.get(str(schema))
    if kind is None:
        raise UsageError(f"{path} holds {schema or 'no record'}, which a report has no section for", _ADVICE)
    try:
        record = kind.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path} is no {schema} of this version ({error.error_count()} differences)") from None
    if isinstance(record, CertifyRecord):
        found.certificates.append((str(path), record))
    elif isinstance(record, NormsRecord):
        found.norms.append((str(path), record))
    elif isinstance(record, JacobianRecord):
        found.jacobians.append((str(path), record))
    elif isinstance(record, VerifyRecord):
        found.answers.append((str(path), record))
