"""The record of `robcert compare`."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from robcert.runs.record import DataRecord, Strict
from robcert.runs.records import Record, scalars
from robcert.types import ThreatNorm

PREDICTORS = ("loss-l2", "probability", "row", "margin")
"""The norms whose ratios are compared with that of the distances."""


class Improvement(Strict):
    """Over the first line: how many times the norm is smaller, by its mean (total variation) and by its maximum."""

    mean: float | None
    max: float | None


class LineRecord(Strict):
    """One model in one run."""

    label: str
    run: str
    model: str
    attacks: list[str]
    median_distance: float | None = Field(
        description="null where it is not known: too few examples, or beyond the limit"
    )
    limit: float | None = Field(description="distance beyond which certified images were not attacked; null: none is")
    improvement: float | None = Field(description="of the median distance, over the first line")
    predicted: dict[str, Improvement] = Field(description="by the statistic of `robcert jacobian`")
    median_calls: float | None = Field(description="model calls up to the closest example, over the broken images")
    rank_correlation: dict[str, float | None] = Field(description="of distance with estimates from one gradient")
    distance: list[float | None] = Field(description="per image; 0 where wrong, null where no example was found")
    radius: list[float] | None

    def error(self, eps: Tensor) -> Tensor:
        """Return the error curve: the share of images that are wrong or broken within each distance of eps (m,)."""
        return _within([math.inf if value is None else value for value in self.distance], eps)

    def uncertified(self, eps: Tensor) -> Tensor | None:
        """Return the share of images that are not certified at each distance of eps (m,); never below `error`."""
        return None if self.radius is None else _within(self.radius, eps)


class CompareRecord(Record):
    """The output of ``robcert compare --format json``."""

    schema_: Literal["robcert.compare/1"] = Field(default="robcert.compare/1", alias="schema")
    norm: ThreatNorm
    data: DataRecord
    lines: list[LineRecord]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each model in each run."""
        return [{"norm": self.norm, **scalars(line)} for line in self.lines]


def _within(values: list[float], eps: Tensor) -> Tensor:
    """Return the share of values that are at most each of eps (m,): (m,) float64."""
    return (torch.tensor(values, dtype=torch.float64)[None] <= eps[:, None]).double().mean(dim=1)
