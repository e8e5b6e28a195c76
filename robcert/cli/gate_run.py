"""What `robcert gate` does after its options have been read."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from robcert.cli.inputs import Foreign
from robcert.cli.parse import write
from robcert.errors import UsageError, did_you_mean
from robcert.policy.evaluate import How, evaluate
from robcert.policy.load import Source
from robcert.policy.schema import ModelEntry
from robcert.policy.template import starting_policy, write_policy
from robcert.reports.gate import GateRenderer, renderers
from robcert.reports.gate.github import summary
from robcert.types import NORMS


@dataclass(frozen=True)
class Wanted:
    """Formats and where they go: the first to stdout unless a file is named."""

    formats: tuple[tuple[str, GateRenderer, Path | None], ...]

    @staticmethod
    def parse(output_format: str, output: Path | None, save: list[str]) -> Wanted:
        """From ``--format``, ``--output`` and ``--save`` texts.

        Raises:
            UsageError: an unknown format, or no FORMAT=FILE.
        """
        formats = [(output_format, renderers.get(output_format), output)]
        for text in save:
            name, found, path = text.partition("=")
            if not (found and path):
                raise UsageError(f"--save {text!r} is not FORMAT=FILE", "Example: --save junit=robcert.xml")
            formats.append((name, renderers.get(name), Path(path)))
        return Wanted(tuple(formats))


def entries(models: list[str], foreign: Foreign) -> list[ModelEntry]:
    """The models of the command line, with what its options say of their files."""
    given = {key: value for key, value in asdict(foreign).items() if value is not None}
    return [ModelEntry(path=path, **given) for path in models]


def check(source: Source, how: How, wanted: Wanted) -> bool:
    """Evaluate a policy and write every format; whether it passed."""
    record = evaluate(source, how)
    for name, render, path in wanted.formats:
        write(render(record), path)
        target = os.environ.get("GITHUB_STEP_SUMMARY")
        if name == "github" and target:
            _append(Path(target), summary(record))
    return record.passed


def _append(target: Path, text: str) -> None:
    """To the summary of the job. Where it cannot be written a warning: the verdict alone decides the exit code."""
    try:
        with target.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        typer.echo(f"robcert: warning: GITHUB_STEP_SUMMARY: cannot write {target} ({error.strerror})", err=True)


def start(models: list[ModelEntry], data: str | None, norm: str, path: Path, how: How, class_order: Path | None) -> str:
    """Write a policy for one model; what to do next."""
    if len(models) != 1:
        raise UsageError(
            f"--init measures one model, {len(models)} were named", "Example: robcert gate --init digits-l2nnn"
        )
    if norm not in NORMS:
        raise UsageError(f"unknown norm {norm!r}", did_you_mean(norm, NORMS))
    if path.exists():
        raise UsageError(f"{path} exists already", "Name another file with --policy, or remove it")
    begun = starting_policy(models[0], data, norm, how, class_order)
    write_policy(path, begun)
    return f"Wrote {path} ({begun.measured}). Next: robcert gate --policy {path}"
