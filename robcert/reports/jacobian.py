"""The records and tables of `robcert jacobian`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table
from torch import Tensor

from robcert.math.norms import dual, vector_norm
from robcert.runs.record import DataRecord
from robcert.runs.spec import data_record
from robcert.sensitivity.gradients import STATISTICS
from robcert.sensitivity.jacobian import Sensitivity
from robcert.sensitivity.vulnerability import by_loss, by_margin, rank_correlation
from robcert.types import Dataset, LoadedModel, Norm

_MODELS = 3
"""Models beside each other, two columns each: a table of 100 characters."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class StatisticRecord(_Strict):
    """A norm over the data: its mean is the total variation, its maximum a lower bound of the Lipschitz constant."""

    mean: float
    max: float


class BoundRecord(_Strict):
    """The graph's bound, which holds everywhere, beside the largest value on the data; null where it is infinite."""

    measured: float
    bound: float | None


class CorrelationRecord(_Strict):
    """Spearman's rank correlation with the adversarial distances of a run; null where it has no meaning."""

    run: str
    loss: float | None = Field(description="of eq. 3.7 of paper E")
    margin: float | None = Field(description="of the same estimate from the margin")
    gap: float | None = Field(description="of the confidence gap (0 where the image is wrong)")


class SensitiveImage(_Strict):
    """One image: every statistic, the loss, the margin, and two estimates of the distance.

    An estimate is null where it is infinite or leads out of the box: no point of the box is so far away.
    """

    index: int
    label: int
    statistics: dict[str, float]
    loss: float
    margin: float
    distance_by_loss: float | None
    distance_by_margin: float | None


class SensitiveModel(_Strict):
    """One model."""

    name: str
    sha256: str
    n: int
    precision: str
    statistics: dict[str, StatisticRecord]
    operator: BoundRecord = Field(description="norm of the Jacobian, from the threat's norm to itself")
    logit: BoundRecord = Field(description="dual norm of the steepest logit")
    refused: str = Field(description="why the graph has no bound; empty where it has one")
    median_distance_by_loss: float | None
    median_distance_by_margin: float | None
    correlation: CorrelationRecord | None
    images: list[SensitiveImage]


class JacobianRecord(_Strict):
    """What ``robcert jacobian --format json`` prints."""

    schema_: Literal["robcert.jacobian/1"] = Field(default="robcert.jacobian/1", alias="schema")
    norm: Norm
    data: DataRecord
    models: list[SensitiveModel]

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)


@dataclass(frozen=True)
class Distances:
    """The distances (n,) that a run found, and the run."""

    run: str
    values: Tensor


def jacobian_record(
    found: Sequence[tuple[LoadedModel, Sensitivity, Distances | None]], data: Dataset, norm: Norm
) -> JacobianRecord:
    """From measurements to the record."""
    models = [_model(model, one, data, distances, norm) for model, one, distances in found]
    return JacobianRecord(norm=norm, data=data_record(data), models=models)


def render_jacobian(record: JacobianRecord, console: Console) -> None:
    """A row a statistic, mean and maximum for each model; then bounds, estimates and correlations."""
    for first in range(0, len(record.models), _MODELS):
        some = record.models[first : first + _MODELS]
        console.print(_statistics(record, some))
        console.print(_bounds(record, some))
    for model in record.models:
        _lines(model, record, console)


def _statistics(record: JacobianRecord, models: list[SensitiveModel]) -> Table:
    data = record.data
    rows = list(STATISTICS.items())
    if record.norm != "l2":
        rows += [(name, title) for name, title in _dual_rows(record.norm) if name in models[0].statistics]
    cells = {
        title: [_text(v) for m in models for v in (m.statistics[name].mean, m.statistics[name].max)]
        for name, title in rows
    }
    return _table(f"Gradient norms, {data.name} {data.split}, n {data.n}", models, ("mean", "max"), cells)


def _bounds(record: JacobianRecord, models: list[SensitiveModel]) -> Table:
    norm = record.norm
    cells = {
        title: [_text(v) for one in at for v in (one.measured, one.bound)]
        for title, at in (
            (f"J, {norm} to {norm}", [model.operator for model in models]),
            ("a logit", [model.logit for model in models]),
        )
    }
    return _table(f"Largest on the data and bound of the graph, {norm}", models, ("measured", "bound"), cells)


def _table(title: str, models: list[SensitiveModel], ends: tuple[str, str], rows: dict[str, list[str]]) -> Table:
    """Two columns a model."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for model in models:
        for column in ends:
            table.add_column(f"{model.name}\n{column}", justify="right", overflow="fold")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _lines(model: SensitiveModel, record: JacobianRecord, console: Console) -> None:
    if model.refused:
        console.print(f"{model.name}: no bound of the graph: {model.refused}")
    far = "beyond the box"
    loss, margin = _text(model.median_distance_by_loss, far), _text(model.median_distance_by_margin, far)
    console.print(
        f"{model.name}: median estimated {record.norm} distance over all {model.n} images: "
        f"{loss} (loss, eq. 3.7), {margin} (margin)"
    )
    if model.correlation:
        c = model.correlation
        console.print(
            f"{model.name}: rank correlation with the distances of {c.run}: {_text(c.loss, '-')} (loss, eq. 3.7), "
            f"{_text(c.margin, '-')} (margin), {_text(c.gap, '-')} (confidence gap)"
        )


def _dual_rows(norm: Norm) -> list[tuple[str, str]]:
    written = {"l1": "1", "l2": "2", "linf": "inf"}
    to = written[norm]
    return [
        ("operator", f"||J||, {to} to {to}"),
        ("row-dual", f"||J||_{written[dual(norm)]},inf"),
        ("margin-dual", f"||grad margin||_{written[dual(norm)]}"),
    ]


def _model(
    model: LoadedModel, found: Sensitivity, data: Dataset, distances: Distances | None, norm: Norm
) -> SensitiveModel:
    names = [*STATISTICS, "operator", "row-dual", "margin-dual"]
    loss, margin = by_loss(found), by_margin(found)
    reach = farthest(data.x, norm, data.box)
    near, close = (torch.where(one.cpu() <= reach, one.cpu(), math.inf) for one in (loss, margin))
    values, upper = found.values, found.upper
    correlation = None
    if distances is not None:
        correlation = CorrelationRecord(
            run=distances.run,
            loss=rank_correlation(loss, distances.values),
            margin=rank_correlation(margin, distances.values),
            gap=rank_correlation(values["gap"].clamp_min(0), distances.values),
        )
    return SensitiveModel(
        name=model.name,
        sha256=model.source.sha256,
        n=len(data),
        precision=found.precision,
        statistics={name: StatisticRecord(mean=found.mean(name), max=found.largest(name)) for name in names},
        operator=BoundRecord(measured=upper.measured_whole, bound=_finite(upper.whole)),
        logit=BoundRecord(measured=upper.measured_logit, bound=_finite(upper.logit)),
        refused=upper.refused,
        median_distance_by_loss=_finite(float(torch.quantile(near, 0.5, interpolation="lower"))),
        median_distance_by_margin=_finite(float(torch.quantile(close, 0.5, interpolation="lower"))),
        correlation=correlation,
        images=[
            SensitiveImage(
                index=int(data.index[i]),
                label=int(data.y[i]),
                statistics={name: float(values[name][i]) for name in STATISTICS},
                loss=float(values["loss"][i]),
                margin=float(values["gap"][i]),
                distance_by_loss=_finite(float(near[i])),
                distance_by_margin=_finite(float(close[i])),
            )
            for i in range(len(data))
        ],
    )


def farthest(x: Tensor, norm: Norm, box: tuple[float, float]) -> Tensor:
    """(n,) float64, on the CPU: the distance of images (n, *shape) from the farthest corner of the box."""
    low, high = box
    away = torch.maximum(x.double().cpu() - low, high - x.double().cpu())
    return vector_norm(away, norm)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(value: float | None, missing: str = "inf") -> str:
    return missing if value is None else f"{value:.4g}"


def schema() -> str:
    """The JSON schema (docs/schemas/jacobian-1.json), as ``python -m robcert.reports.jacobian`` prints it."""
    return json.dumps(JacobianRecord.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
