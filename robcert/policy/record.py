"""The verdict of a gate: the output of ``robcert gate --format json``, published as the schema robcert.gate/1."""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

from pydantic import Field

from robcert.policy.verdict import PASSING, Grade
from robcert.runs.record import DataRecord, Interval, LegRecord, OutOfTime, PlateauRecord, Strict, Versions
from robcert.runs.records import Record, scalars
from robcert.types import ThreatNorm

SCHEMA: Literal["robcert.gate/1"] = "robcert.gate/1"


class CountsRecord(Strict):
    """Images by what is known of them. What is open was not broken and is not certified."""

    n: int
    wrong: int
    broken: int
    certified: int
    open: int
    pass_at: int | None = Field(description="the smallest number of standing images that shows the requirement")
    fail_at: int | None = Field(description="the largest number of standing images that excludes it")


class PairsRecord(Strict):
    """The same images, now and in the baseline."""

    before: int = Field(description="images that stood in the baseline")
    lost: int = Field(description="images that stood and do not any more")
    won: int = Field(description="images that did not stand and do now")
    mcnemar: float = Field(description="McNemar's exact one-sided p-value of no drop")
    newly_broken: list[int] = Field(description="their indices in the data set")


class WitnessRecord(Strict):
    """A verified adversarial example within eps."""

    index: int
    label: int
    adversarial_label: int | None
    distance: float | None
    attack: str | None


class RunUse(Strict):
    """One run of attacks on one model, shared by the requirements that ask for it."""

    model: str
    norm: ThreatNorm
    eps: float
    plan: str
    certify: str
    legs: list[LegRecord]
    forwards: int = Field(description="images passed forward")
    backwards: int = Field(description="images passed backward")
    seconds: float
    stopped: str | None = Field(description="why the plan was not run to its end")
    settled: int | None = Field(
        default=None,
        description="with --full: forwards after which no verdict could change any more; null where that was the end",
    )
    plateau: PlateauRecord | None
    out_of_time: list[OutOfTime] = Field(
        default_factory=list[OutOfTime], description="images that reached --time-per-image undecided"
    )
    directory: str | None


class RequirementRecord(Strict):
    """The verdict on one requirement for one model."""

    model: str
    name: str
    kind: str
    title: str
    sign: Literal["at least", "at most"]
    limit: float
    norm: ThreatNorm | None
    eps: float | None
    line: int = Field(description="of the requirement in the policy")
    verdict: Grade
    reason: str = Field(description="a sentence for a person")
    value: float | None = Field(description="the figure; null where it is not finite")
    bounds: Interval | None = Field(description="one-sided exact bounds, each at the asked confidence")
    confidence: float | None = Field(description="of the bounds; null where the images are all there are")
    counts: CountsRecord | None
    pairs: PairsRecord | None
    converged: bool | None = Field(description="whether the sweep is flat; null where undecided or not measured")
    needed: int | None = Field(description="images that would decide, where it is inconclusive")
    run: int | None = Field(description="position in runs")
    forwards: int = Field(description="of the run that answers it, or of the attacks that it needs for itself")
    backwards: int
    witnesses: list[WitnessRecord]

    @property
    def passed(self) -> bool:
        """True where it holds."""
        return self.verdict in PASSING


class GatedModel(Strict):
    """A network, by name and digests."""

    name: str
    sha256: str


class PolicyRecord(Strict):
    """A policy, by its file."""

    path: str
    sha256: str


class GateRecord(Record):
    """A whole evaluation of a policy."""

    schema_: Literal["robcert.gate/1"] = Field(default=SCHEMA, alias="schema")
    command: Literal["gate"] = "gate"
    verdict: Grade = Field(description="the worst of all")
    passed: bool = Field(description="whether the exit code is 0")
    policy: PolicyRecord
    data: DataRecord
    of: int = Field(description="images in the whole data set")
    models: list[GatedModel]
    requirements: list[RequirementRecord]
    runs: list[RunUse]
    versions: Versions
    device: str
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each model and requirement."""
        return [scalars(one) for one in self.requirements]


def schema() -> str:
    """The JSON schema of `GateRecord`: docs/schemas/gate-1.json, as ``python -m robcert.policy.record`` prints it."""
    return json.dumps(GateRecord.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
