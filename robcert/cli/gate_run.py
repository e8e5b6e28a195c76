"""The work of `robcert gate` after its options have been read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from robcert.cli.flags import DataFlags, ModelFlags
from robcert.cli.inputs import facts
from robcert.cli.parse import choice, write
from robcert.errors import UsageError
from robcert.policy.evaluate import How
from robcert.policy.record import GateRecord
from robcert.policy.schema import ModelEntry
from robcert.policy.template import START_SECONDS, Chosen, starting_policy, write_policy
from robcert.reports import Render, renderer_of
from robcert.reports.gate.github import summary
from robcert.types import BOUND_NORMS


@dataclass(frozen=True)
class Wanted:
    """Formats and where they go: the first to stdout unless a file is named."""

    formats: tuple[tuple[str, Render, Path | None], ...]

    @staticmethod
    def parse(output_format: str, output: Path | None, save: list[str]) -> Wanted:
        """From ``--format``, ``--output`` and ``--save`` texts.

        Raises:
            UsageError: an unknown format, or no FORMAT=FILE.
        """
        formats = [(output_format, renderer_of(GateRecord, output_format), output)]
        for text in save:
            name, found, path = text.partition("=")
            if not (found and path):
                raise UsageError(f"--save {text!r} is not FORMAT=FILE", "Example: --save junit=robcert.xml")
            formats.append((name, renderer_of(GateRecord, name), Path(path)))
        return Wanted(tuple(formats))

    def write(self, record: GateRecord) -> None:
        """Write every format."""
        for name, render, path in self.formats:
            write(render(record), path)
            target = os.environ.get("GITHUB_STEP_SUMMARY")
            if name == "github" and target:
                _append(Path(target), summary(record))


def entries(models: list[str], flags: ModelFlags) -> list[ModelEntry]:
    """The models of the command line, with what its options say of their files."""
    given = {key: value for key, value in facts(flags).items() if value not in (None, False)}
    given.pop("download", None)  # of the call, not of a model
    if "num_classes" in given:
        given["classes"] = given.pop("num_classes")
    return [ModelEntry(path=path, **given) for path in models]


def _append(target: Path, text: str) -> None:
    """To the summary of the job. Where it cannot be written a warning: the verdict alone decides the exit code."""
    try:
        with target.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        typer.echo(f"robcert: warning: GITHUB_STEP_SUMMARY: cannot write {target} ({error.strerror})", err=True)


def start(
    models: list[ModelEntry],
    data: DataFlags,
    norm: str,
    path: Path,
    how: How,
    time_budget: float | None,
) -> str:
    """Write a policy for one model; what to do next."""
    if len(models) != 1:
        raise UsageError(
            f"--init measures one model, {len(models)} were named", "Example: robcert gate --init digits-l2nnn"
        )
    chosen_norm = choice("norm", norm, BOUND_NORMS)
    if path.exists():
        raise UsageError(f"{path} exists already", "Name another file with --policy, or remove it")
    order = None if data.class_order is None else str(data.class_order)
    chosen = Chosen(data.data, data.split, data.n, data.seed, order)
    begun = starting_policy(models[0], chosen, chosen_norm, how, time_budget or START_SECONDS)
    write_policy(path, begun)
    return (
        f"Wrote {path} ({begun.measured}). Next: robcert gate --policy {path}\n"
        f"The gate keeps its runs in {how.runs}/: keep that out of git (.gitignore), and in the cache of your CI."
    )
