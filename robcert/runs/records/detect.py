"""The records of `robcert detect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from robcert.math.binomial import interval
from robcert.runs.record import DataRecord, Interval, Strict
from robcert.runs.records import Record, scalars
from robcert.runs.spec import data_record
from robcert.sensitivity.threshold import Threshold
from robcert.types import Dataset, LoadedModel

if TYPE_CHECKING:
    from robcert.sensitivity.detection import Detection, DetectionResult


class CleanRecord(Strict):
    """The false positives: clean test images that are rejected."""

    n: int
    rejected: int
    interval: Interval = Field(description="exact 95 % interval of the rate")
    predicted: tuple[int, int] = Field(description="95 % beta-binomial prediction interval of the number")
    right: int = Field(description="clean images that the model answers right")


class CaughtRecord(Strict):
    """One attack. ``detected`` counts out of ``tried``: examples; for an adaptive attack, attacked images."""

    attack: str
    adaptive: bool
    attacked: int
    found: int = Field(description="images with an example; for an adaptive attack, with one that passes the detector")
    tried: int
    detected: int
    interval: Interval
    median_distance: float | None = Field(description="l2, over the attacked images; null where too few were found")
    area: float | None = Field(
        description="under the ROC curve of clean images against the examples; null for an adaptive attack"
    )
    roc: tuple[list[float], list[float]] | None = Field(description="false and true positive rates")
    forwards: int = Field(description="images passed forward by the attack, verification included")
    backwards: int


class DetectRecord(Record):
    """The output of ``robcert detect --format json``."""

    schema_: Literal["robcert.detect/1"] = Field(default="robcert.detect/1", alias="schema")
    model: str
    sha256: str
    threshold: Threshold
    data: DataRecord
    clean: CleanRecord
    attacks: list[CaughtRecord]
    adaptive: bool = Field(description="whether an attack on the detector itself was among them")

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each attack."""
        return [{"model": self.model, **scalars(attack)} for attack in self.attacks]


class ScreenedRecord(Strict):
    """One file: the model's answer, the statistic, and whether it is rejected."""

    file: str
    answer: str
    value: float
    rejected: bool


class ScreenRecord(Record):
    """The output of ``robcert detect --images DIR --format json``."""

    schema_: Literal["robcert.screen/1"] = Field(default="robcert.screen/1", alias="schema")
    model: str
    sha256: str
    threshold: Threshold
    rejected: int
    files: list[ScreenedRecord]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each file."""
        return [{"model": self.model, **scalars(file)} for file in self.files]


def detect_record(model: LoadedModel, test: Dataset, found: Detection) -> DetectRecord:
    """From a detection to its record."""
    n = len(test)
    return DetectRecord(
        model=model.name,
        sha256=model.source.sha256,
        threshold=found.threshold,
        data=data_record(test),
        clean=CleanRecord(
            n=n,
            rejected=found.rejected,
            interval=interval(found.rejected, n),
            predicted=found.threshold.false_positives(n),
            right=found.right,
        ),
        attacks=[_result(one, found) for one in found.results],
        adaptive=any(one.adaptive for one in found.results),
    )


def screen_record(
    model: LoadedModel, threshold: Threshold, files: list[Path], answers: list[str], values: list[float]
) -> ScreenRecord:
    """From screened files to the record."""
    rows = [
        ScreenedRecord(file=str(file), answer=answer, value=value, rejected=not value <= threshold.value)
        for file, answer, value in zip(files, answers, values, strict=True)
    ]
    return ScreenRecord(
        model=model.name,
        sha256=model.source.sha256,
        threshold=threshold,
        rejected=sum(row.rejected for row in rows),
        files=rows,
    )


def _result(one: DetectionResult, found: Detection) -> CaughtRecord:
    from robcert.sensitivity.detection import roc  # and with it a search: who reads a record needs none

    ordered = one.distance.sort().values
    # The lower of two middle ones: the mean with infinity would say nothing.
    median = float(ordered[(len(ordered) - 1) // 2])
    return CaughtRecord(
        attack=one.name,
        adaptive=one.adaptive,
        attacked=one.attacked,
        found=one.found,
        tried=one.tried,
        detected=one.detected,
        interval=interval(one.detected, one.tried) if one.tried else (0.0, 1.0),
        median_distance=median if median < float("inf") else None,
        area=one.area,
        roc=roc(found.clean, one.values) if one.area is not None else None,
        forwards=one.forwards,
        backwards=one.backwards,
    )
