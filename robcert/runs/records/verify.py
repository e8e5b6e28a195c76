"""The record of `robcert verify`."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from robcert.runs.record import Strict
from robcert.runs.records import Record, scalars
from robcert.types import LoadedModel
from robcert.verification.answer import Answer, Arithmetic, Result


class Counterexample(Strict):
    """An input of the box whose outputs fulfil a case of the property."""

    x: list[float] = Field(description="float32, entry by entry in the order of the file's input")
    y: list[float | None] = Field(description="the outputs of the file there, as executed; null: not finite")
    runtime: str = Field(description="what executed it: a provider of onnxruntime, or robcert for other files")


class AnswerRecord(Strict):
    """The answer to one property of one model."""

    model: str
    sha256: str = Field(description="of the model's file")
    property: str = Field(description="the file, as it was named")
    property_sha256: str
    timeout: float = Field(description="seconds")
    result: Result
    real: bool = Field(description="whether it is proven that no counterexample exists in real arithmetic")
    by: str = Field(description="the attack or the method that decided; empty where none did")
    counterexample: Counterexample | None
    reason: str
    seconds: float = Field(description="wall-clock, from the network loaded to the answer")


class VerifyRecord(Record):
    """The output of ``robcert verify --format json``."""

    schema_: Literal["robcert.verify/1"] = Field(default="robcert.verify/1", alias="schema")
    arithmetic: Arithmetic = Field(description="the arithmetic of the network of which unsat speaks")
    plan: list[str] = Field(description="the attacks of the search")
    seed: int
    answers: list[AnswerRecord]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each model and property."""
        return [scalars(answer) for answer in self.answers]


def answer_record(model: LoadedModel, prop: str, sha256: str, timeout: float, found: Answer) -> AnswerRecord:
    """Return the record of an answer."""
    example = None
    if found.result == "sat":
        y = [value if math.isfinite(value) else None for value in found.y]
        example = Counterexample(x=list(found.x), y=y, runtime=found.runtime)
    return AnswerRecord(
        model=model.name,
        sha256=model.source.sha256,
        property=prop,
        property_sha256=sha256,
        timeout=timeout,
        result=found.result,
        real=found.real,
        by=found.by,
        counterexample=example,
        reason=found.reason,
        seconds=round(found.seconds, 3),
    )
