"""The record of `robcert jacobian`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from robcert.runs.record import DataRecord, Strict
from robcert.runs.records import Record, scalars
from robcert.runs.spec import data_record
from robcert.sensitivity.gradients import STATISTICS
from robcert.sensitivity.vulnerability import by_loss, by_margin, rank_correlation
from robcert.threats.kind import norm_of
from robcert.types import BoundNorm, Dataset, LoadedModel

if TYPE_CHECKING:
    from robcert.sensitivity.jacobian import Sensitivity


class StatisticRecord(Strict):
    """A norm over the data: its mean is the total variation, its maximum a lower bound of the Lipschitz constant."""

    mean: float
    max: float


class BoundRecord(Strict):
    """The graph's bound, which holds everywhere, beside the largest value on the data; null where it is infinite."""

    measured: float
    bound: float | None


class CorrelationRecord(Strict):
    """Spearman's rank correlation with the adversarial distances of a run; null where it has no meaning."""

    run: str
    loss: float | None = Field(description="of eq. 3.7 of paper E")
    margin: float | None = Field(description="of the same estimate from the margin")
    gap: float | None = Field(description="of the confidence gap (0 where the image is wrong)")


class SensitiveImage(Strict):
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


class SensitiveModel(Strict):
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


class JacobianRecord(Record):
    """The output of ``robcert jacobian --format json``."""

    schema_: Literal["robcert.jacobian/1"] = Field(default="robcert.jacobian/1", alias="schema")
    norm: BoundNorm
    data: DataRecord
    models: list[SensitiveModel]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each model and image; its statistics are columns."""
        return [
            {"model": model.name, "norm": self.norm, **scalars(image), **image.statistics}
            for model in self.models
            for image in model.images
        ]


@dataclass(frozen=True)
class Distances:
    """The distances (n,) that a run found, and the run."""

    run: str
    values: Tensor


def jacobian_record(
    found: Sequence[tuple[LoadedModel, Sensitivity, Distances | None]], data: Dataset, norm: BoundNorm
) -> JacobianRecord:
    """From measurements to the record."""
    models = [_model(model, one, data, distances, norm) for model, one, distances in found]
    return JacobianRecord(norm=norm, data=data_record(data), models=models)


def _model(
    model: LoadedModel, found: Sensitivity, data: Dataset, distances: Distances | None, norm: BoundNorm
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


def farthest(x: Tensor, norm: BoundNorm, box: tuple[float, float]) -> Tensor:
    """(n,) float64, on the CPU: the distance of images (n, *shape) from the farthest corner of the box."""
    low, high = box
    away = torch.maximum(x.double().cpu() - low, high - x.double().cpu())
    return norm_of(norm).norm(away)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
