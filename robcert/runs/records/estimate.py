"""What a run of attacks would cost: the record of ``robcert attack --dry-run``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from robcert.runs.record import Strict
from robcert.runs.records import Record

Range = tuple[float, float]


class LegEstimate(Strict):
    """A leg, from the fewest to the most; forwards and backwards count images."""

    leg: str
    images: Range = Field(description="open images that enter")
    forwards: Range
    backwards: Range
    seconds: Range = Field(description="CPU seconds, of all threads")
    measured: bool = Field(description="its attack was run; else the whole budget of every image is taken")


class ModelEstimate(Strict):
    """One model.

    A range is from images that fall as the measured ones did to the most that stay open by the exact 95 % bound.
    """

    name: str
    natural_correct: int
    certified: int
    n: int
    measured: int = Field(description="images that were attacked to measure")
    broken: int = Field(description="of these, the images that the measurement broke")
    legs: list[LegEstimate]
    start: float = Field(
        description="CPU seconds of clean answers, certificate, export and choosing numbers and layout"
    )
    seconds: Range = Field(description="CPU seconds of it all")
    all_open: float = Field(description="CPU seconds where every image stays open")
    wall: Range = Field(description="the same on the clock, at the load of this machine now")
    memory: int | None = Field(
        description="bytes that a step on a whole batch took: of the process, on a GPU of its tensors there"
    )


class EstimateRecord(Record):
    """The estimate of a run."""

    schema_: Literal["robcert.estimate/1"] = Field(default="robcert.estimate/1", alias="schema")
    command: Literal["attack"] = "attack"
    device: str
    models: list[ModelEstimate]
    loading: float = Field(description="CPU seconds before the first model: imports, networks, images")
    seconds: Range = Field(description="CPU seconds of all models and of loading")
    wall: Range = Field(description="the same on the clock, at the load of this machine now")
