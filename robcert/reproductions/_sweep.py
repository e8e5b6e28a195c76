"""Tables 1, 2 and 4 of paper A: models of the zoo beside columns of the paper, swept by one attack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from robcert.data import load_dataset
from robcert.errors import EvaluationError, UsageError, did_you_mean
from robcert.network import load_model
from robcert.network.zoo import zoo_names
from robcert.reports.console import verdict_line
from robcert.reproductions.record import Cell, Column, Table
from robcert.reproductions.settings import Settings
from robcert.runs.api import attack
from robcert.runs.plan import LegPlan
from robcert.runs.record import ModelRecord, RunRecord
from robcert.runs.summary import as_list
from robcert.types import Dataset, LoadedModel, Threat, ThreatNorm

SWEEP = (100, 1_000, 10_000, 100_000, 1_000_000)
"""The iterations that paper A reports."""


@dataclass(frozen=True)
class Match:
    """A model of the zoo, and the column of the paper it stands beside.

    Attributes:
        ours: its name in the zoo.
        paper: the paper's name of its column; empty where the paper has none.
        natural: the paper's natural accuracy.
        attacked: the paper's accuracy under attack, by the label of the row.
    """

    ours: str
    paper: str = ""
    natural: float | None = None
    attacked: dict[str, float] | None = None


@dataclass(frozen=True)
class Swept:
    """The record of one model's run, beside its column of the paper."""

    match: Match
    record: RunRecord

    @property
    def model(self) -> ModelRecord:
        """The only model of the run."""
        return self.record.models[0]

    def attacked(self, leg: str) -> float | None:
        """Accuracy after the leg of that name, or None if the sweep had none."""
        for done in self.model.legs:
            if str(LegPlan(done.attack, done.iterations, done.restarts)) == leg:
                return as_list(done.attacked_correct)[0] / self.model.n
        return None


def available(
    matches: tuple[Match, ...], table: str, data: str, wanted: tuple[str, ...] = ()
) -> tuple[list[Match], list[str]]:
    """The models that the zoo has, of those that are wanted (empty: all), and a line for each that it lacks.

    Raises:
        UsageError: the table has no such model.
        EvaluationError: the zoo has none of them.
    """
    for name in wanted:
        if name not in (known := [match.ours for match in matches]):
            raise UsageError(f"{table} has no column of {name!r}", did_you_mean(name, known))
    matches = tuple(match for match in matches if not wanted or match.ours in wanted)
    there = [match for match in matches if match.ours in zoo_names()]
    if not there:
        raise EvaluationError(
            f"{table} needs models that were trained on {data}, and the zoo has none of"
            f" {', '.join(match.ours for match in matches)}",
            "Train them from recipes of these names into models/ (robcert train models/NAME/recipe.toml)",
        )
    missing = [f"{match.ours} is not in the zoo: its column is left out" for match in matches if match not in there]
    return there, missing


def load_images(settings: Settings, data: str, *, n: int | None) -> Dataset:
    """A stratified subset of the test set, on the device of the models."""
    images = load_dataset(
        settings.data or data,
        split="test",
        n=n,
        seed=settings.seed,
        data_dir=settings.data_dir,
        download=settings.download,
    )
    where = settings.device
    return replace(images, x=images.x.to(where), y=images.y.to(where), index=images.index.to(where))


def load(name: str, settings: Settings) -> LoadedModel:
    """A model of the zoo on the device of the settings."""
    return load_model(name, device=settings.device)


def legs(name: str, settings: Settings) -> list[LegPlan]:
    """The paper's iterations up to the longest that was asked for, and restarts of that one."""
    counts = [count for count in SWEEP if count < settings.max_iterations] + [settings.max_iterations]
    plan = [LegPlan(name, count) for count in counts]
    if settings.restarts > 1:
        plan.append(LegPlan(name, settings.max_iterations, settings.restarts))
    return plan


def sweep(
    matches: list[Match],
    images: Dataset,
    norm: ThreatNorm,
    eps: float,
    plan: list[LegPlan],
    settings: Settings,
    options: dict[str, dict[str, Any]] | None = None,
) -> list[Swept]:
    """Attacks every model in a run of its own, which a second call finds and goes on with."""
    return [
        Swept(
            match,
            attack(
                load(match.ours, settings),
                images,
                Threat(norm, (eps,), images.box),
                plan,
                goal="decide",
                seed=settings.seed,
                options=options,
                runs=settings.runs,
                reporter=settings.reporter,
                cpu_threads=settings.threads,
            ),
        )
        for match in matches
    ]


def sweep_table(title: str, swept: list[Swept], plan: list[LegPlan], rows: tuple[str, ...]) -> Table:
    """A row for each leg of ours and of the paper, the paper's columns beside ours, and what is certified.

    Args:
        title: of the table.
        swept: the models.
        plan: our legs.
        rows: the labels of the paper's rows, in its order, as our legs are called without their attack.
    """
    columns = [Column(name="MaxIter", source="label", kind="text")]
    for one in swept:
        columns.append(Column(name=one.match.ours))
        if one.match.paper:
            columns.append(Column(name=one.match.paper, source="paper"))
    labels = {str(leg).partition(":")[2]: str(leg) for leg in plan}
    ordered = [*rows, *(label for label in labels if label not in rows)]
    table: list[list[Cell]] = [["Natural", *_cells(swept, lambda one: one.model.natural_correct / one.model.n, None)]]
    table += [
        [label, *_cells(swept, lambda one, leg=labels.get(label, ""): one.attacked(leg), label)] for label in ordered
    ]
    table.append(["Certified", *_cells(swept, _certified, "Certified")])
    return Table(title=title, columns=columns, rows=table)


def verdicts(swept: list[Swept]) -> list[str]:
    """Return what each sweep says about more iterations."""
    return [verdict_line(one.record, one.model).plain for one in swept]


def runs(swept: list[Swept]) -> list[str]:
    """Return the folder of the runs."""
    return [one.record.run for one in swept if one.record.run is not None]


def _certified(one: Swept) -> float | None:
    found = one.model.certificate
    return None if found is None else as_list(found.correct)[0] / one.model.n


def _cells(swept: list[Swept], ours: Any, label: str | None) -> list[Cell]:
    """Our number of each model and, where there is one, the paper's (``label`` None: natural accuracy)."""
    cells: list[Cell] = []
    for one in swept:
        cells.append(ours(one))
        if one.match.paper:
            cells.append(one.match.natural if label is None else (one.match.attacked or {}).get(label))
    return cells
