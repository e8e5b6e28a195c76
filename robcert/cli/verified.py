"""What `robcert verify` reads and writes beside its record: lists of instances, tables of results, counterexamples."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from robcert.cli.flags import ModelFlags
from robcert.cli.inputs import load_one
from robcert.errors import UsageError
from robcert.reports.verify import result_text
from robcert.runs.records.verify import AnswerRecord
from robcert.runs.verify import TIMEOUT, Instance
from robcert.verification.competition import read_instances, result_line


@dataclass(frozen=True)
class Asked:
    """An instance, and how a table of results names it."""

    instance: Instance
    category: str
    model: str
    prop: str


def ask(
    models: list[str], prop: Path | None, instances: Path | None, timeout: float | None, flags: ModelFlags
) -> list[Asked]:
    """Return the instances of a call, their networks loaded.

    Raises:
        UsageError: neither or both of a property and a list were named, or something cannot be read.
        EvaluationError: a network cannot be loaded.
    """
    if (instances is None) == (prop is None or not models):
        raise UsageError(
            "a model and a property are needed, or a list of instances",
            "Example: robcert verify net.onnx prop_0.vnnlib, or robcert verify --instances instances.csv",
        )
    if instances is not None:
        rows = read_instances(instances)
        category = instances.resolve().parent.name
        listed = [(str(row.model_path), row.prop_path, row.seconds, row.model, row.prop) for row in rows]
    else:
        assert prop is not None
        category = ""
        listed = [(model, prop, TIMEOUT, model, str(prop)) for model in models]
    loaded = {model: load_one(model, flags) for model in dict.fromkeys(model for model, *_ in listed)}
    return [
        Asked(
            Instance(loaded[model], path, seconds if timeout is None else timeout, prop_name),
            category,
            model_name,
            prop_name,
        )
        for model, path, seconds, model_name, prop_name in listed
    ]


@contextmanager
def keep(
    asked: list[Asked], results: Path | None, counterexamples: Path | None
) -> Generator[Callable[[AnswerRecord], None]]:
    """Yield a function that writes each answer as soon as it is known.

    Raises:
        UsageError: a file cannot be written.
    """
    number = 0
    try:
        if counterexamples is not None:
            counterexamples.mkdir(parents=True, exist_ok=True)
        table = None if results is None else results.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {error.filename} ({error.strerror})", "Name another path") from None

    def kept(answer: AnswerRecord) -> None:
        nonlocal number
        one = asked[number]
        number += 1
        if table is not None:
            _append(table, result_line(one.category, one.model, one.prop, answer.result, answer.seconds))
        if counterexamples is not None and answer.counterexample is not None:
            name = re.sub(r"[^\w.+-]+", "_", f"{Path(one.model).stem}-{Path(one.prop).stem}")
            path = counterexamples / f"{name[:150]}-{number}.counterexample"
            try:
                path.write_text(result_text(answer) + "\n", encoding="utf-8")
            except OSError as error:
                raise UsageError(f"cannot write {path} ({error.strerror})", "Name another folder") from None

    try:
        yield kept
    finally:
        if table is not None:
            table.close()


def _append(table: TextIO, line: str) -> None:
    table.write(line + "\n")
    table.flush()
