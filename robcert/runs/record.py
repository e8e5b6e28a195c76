"""The record of a run: what ``--format json`` prints, published as the schema robcert.run/1.

With one budget ``attacked_correct``, ``newly_broken``, ``interval``, the counts of ``verdicts`` and an image's
``status`` are single values; with several they are lists in the order of ``eps``.
"""

from __future__ import annotations

import json
import sys
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from robcert.preparation import Pipeline
from robcert.runs.records import Record, scalars
from robcert.types import Goal, Status, ThreatNorm

SCHEMA: Literal["robcert.run/1"] = "robcert.run/1"
Interval = tuple[float, float]
Precision = Literal["float32", "bfloat16"]
Until = Literal["flat"]
UNTIL: tuple[Until, ...] = ("flat",)


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Sparse(Strict):
    """Leaves out what is not told (null)."""

    _optional: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _told(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialise(self).items() if value is not None or key not in self._optional}


class ThreatRecord(Strict):
    """Norm, budgets (ascending) and the box of the input."""

    norm: ThreatNorm
    eps: list[float]
    box: tuple[float, float]


class DataRecord(_Sparse):
    """The images: data set, split, number, seed of the subset, and a digest of images and labels."""

    _optional: ClassVar[tuple[str, ...]] = ("shape", "class_order", "pipeline")

    name: str
    split: str
    n: int
    seed: int | None
    sha256: str
    shape: list[int] | None = Field(default=None, description="of one image, as the model took it")
    class_order: dict[str, int] | None = Field(
        default=None, description="the numbers of the classes by name, where the user or the network gave them"
    )
    pipeline: Pipeline | None = Field(default=None, description="how pictures were resized and cropped")


class LegSpec(Strict):
    """A leg of the plan."""

    attack: str
    iterations: int
    restarts: int


class ModelSpec(Strict):
    """A network, by name and digests."""

    name: str
    sha256: str = Field(description="of its file")
    network: str = Field(default="", description="digest of the network: weights, layers, their code, normalisation")


class RunSpec(_Sparse):
    """All that decides the result of a run. Its hash names the run; a run continues only with the same spec."""

    _optional: ClassVar[tuple[str, ...]] = ("time_per_image", "until")

    command: Literal["attack"] = "attack"
    format: Literal[1, 2] = Field(default=2, description="raised when the same options give another result; 1: 0.1.0")
    threat: ThreatRecord
    data: DataRecord
    models: list[ModelSpec]
    plan: list[LegSpec]
    goal: Goal
    certify: str = Field(default="none", description="the certificate, or none")
    time_per_image: float | None = Field(
        default=None, description="CPU seconds for the certificate of each image; left out where it needs no limit"
    )
    seed: int
    options: dict[str, dict[str, str | int | float | bool | None]] = Field(default_factory=dict)
    flat: float
    until: Until | None = Field(
        default=None, description="lengthen the sweep tenfold until it is flat; left out where the plan is all"
    )
    eot: int = Field(default=1, description="draws that every answer of a random model is averaged over")
    search_precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="asked for; what was used is in the record"
    )
    criterion: str = Field(default="misclassified", description="what counts as success")


class TaskSpec(Strict):
    """All that decides the result of a run of another command than attack; a run continues only with the same spec."""

    command: Literal["certify", "jacobian", "detect", "verify"]
    format: Literal[1] = Field(default=1, description="raised when the same options give another result")
    data: list[DataRecord] = Field(description="of each model")
    models: list[ModelSpec]
    options: dict[str, Any]


class LegRecord(_Sparse):
    """The outcome of one leg. ``entered`` counts the images it attacked."""

    _optional: ClassVar[tuple[str, ...]] = ("finished", "open", "beside")

    attack: str
    iterations: int
    restarts: int
    entered: int
    attacked_correct: int | list[int]
    newly_broken: int | list[int]
    interval: Interval | list[Interval] = Field(description="two-sided exact 95 % interval of attacked accuracy")
    forwards: int = Field(description="images passed forward, verification included")
    backwards: int = Field(description="images passed backward")
    seconds: float
    stopped: bool = Field(default=False, description="it was ended early: not all that entered was attacked to its end")
    finished: int | None = Field(
        default=None, description="where it was ended early: of the images that entered, those attacked to the end"
    )
    open: int | list[int] | None = Field(
        default=None, description="images neither broken nor certified when it began; left out where all that entered"
    )
    beside: str | None = Field(
        default=None, description="what it is where it is no leg of the plan: an attack with the whole box as budget"
    )


class OthersRecord(Strict):
    """The outcome of other attacks on the images that a sweep left open."""

    attacks: list[str]
    entered: int
    newly_broken: int


class PlateauRecord(Strict):
    """The verdict on whether more iterations or other attacks still help; ``flat`` is null where that is undecided."""

    flat: bool | None
    verdict: Literal["flat", "disputed", "falling", "undecided"] = Field(
        description="disputed: more iterations no longer help, but other attacks broke what this one left open"
    )
    since: int | None
    attack: str
    before: int
    after: int
    restarts: int = Field(default=1, description="of both legs that were compared")
    entered: int
    newly_broken: int
    interval: Interval = Field(description="one-sided exact 95 % bounds on the share of open images that broke")
    needed: int | None = Field(description="open images that would decide, where it is undecided")
    others: OthersRecord | None = Field(default=None, description="null where no other attack came after the sweep")
    eps: float


class PlanEndRecord(Strict):
    """The verdict on a plan without a leg of ten times the iterations: what its last iterations still broke.

    It says less than a plateau: an attack spreads its schedule over the iterations that it has.
    """

    verdict: Literal["settled", "falling", "undecided"] = Field(
        description="settled: by the rule of a flat sweep the last iterations broke nothing more"
    )
    leg: str = Field(description="that is looked at: the last one with gradients, where there is one")
    after: float = Field(description="the share of its iterations, restarts together, after which images are counted")
    entered: int = Field(description="images open there, at the largest eps")
    newly_broken: int = Field(description="of these, the images that it broke")
    interval: Interval = Field(description="one-sided exact 95 % bounds on that share")
    last: str | None = Field(description="the last leg that broke an image; null where none did")
    last_at: float | None = Field(description="the share of its iterations at which the last image fell, where known")
    needed: int | None = Field(
        default=None, description="open images that could decide, where those left are too few for longer legs to tell"
    )


class DistanceRecord(Strict):
    """Quantiles of the adversarial distance over all images (0 where wrong); null where none was found that far."""

    median: float | None
    q25: float | None
    q75: float | None


class OutOfTime(Strict):
    """An image whose certificate had no time left."""

    index: int
    seconds: float = Field(description="CPU seconds that it had")
    radius: float = Field(description="certified")
    failed: float | None = Field(description="the smallest radius at which no proof was found; null: none was tried")
    margin: float | None = Field(description="a proven lower bound of the smallest margin of a logit there")
    distance: float | None = Field(description="of its closest verified example; null where none is known")


class CertificateRecord(_Sparse):
    """The proven part. ``correct`` counts images whose radius exceeds eps."""

    _optional: ClassVar[tuple[str, ...]] = ("broken",)

    method: str
    correct: int | list[int]
    interval: Interval | list[Interval] = Field(description="two-sided exact 95 % interval of certified accuracy")
    mean_gap: float
    median_radius: float = Field(
        description="over all images, 0 where nothing is proven; a method that tests one radius at a time is asked "
        "about each eps only, so that its radii end there"
    )
    broken: int | list[int] | None = Field(
        default=None, description="images that examples of the method broke before the first leg; left out where none"
    )
    constants: dict[str, float]
    seconds: float
    out_of_time: list[OutOfTime] = Field(
        default_factory=list[OutOfTime], description="images that reached --time-per-image undecided"
    )


class VerdictCounts(Strict):
    """The number of images of each verdict."""

    wrong: int | list[int]
    broken: int | list[int]
    certified: int | list[int]
    open: int | list[int]


class WarningRecord(Strict):
    """A sign that the attack failed rather than that the model held, with the images it concerns."""

    name: str
    message: str
    advice: str
    images: list[int]


class ImageRecord(Strict):
    """The verdict of one image. ``distance`` is 0 where wrong and null where no adversarial example was found."""

    index: int
    label: int
    status: Status | list[Status]
    distance: float | None
    radius: float | None
    attack: str | None
    iterations: int | None
    iteration: int | None
    restart: int | None
    adversarial_label: int | None


class DeployedRecord(Strict):
    """The examples of a model in the runtime in which it is deployed (``--verify-with``)."""

    runtime: Literal["onnxruntime"] = "onnxruntime"
    version: str
    provider: str = Field(description="what really executed them")
    asked: str = Field(description="what was asked for")
    exported: bool = Field(description="the model is no ONNX file: robcert wrote one, and that was run")
    examples: int = Field(description="verified examples within the largest eps")
    fooled: int = Field(description="of these, those that are misclassified in the runtime too")
    failed: list[int] = Field(description="the images whose examples are not")


class SpentRecord(Strict):
    """Images passed forward (verification included) and backward, and wall seconds."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0


class ModelRecord(Strict):
    """All that was found about one model."""

    name: str
    sha256: str
    network: str = Field(default="", description="digest of the network: weights, layers, their code, normalisation")
    search_precision: Precision = Field(
        default="float32", description="of the coarse part of the search; what counts is confirmed in float32"
    )
    natural_correct: int
    n: int
    natural_interval: Interval
    legs: list[LegRecord]
    plateau: PlateauRecord | None
    plan_end: PlanEndRecord | None = Field(
        default=None, description="where there is no plateau: what the last iterations of the plan still broke"
    )
    distance: DistanceRecord
    certificate: CertificateRecord | None = Field(description="null where nothing was certified")
    verdicts: VerdictCounts
    warnings: list[WarningRecord]
    images: list[ImageRecord]
    deployed: DeployedRecord | None = Field(default=None, description="null where nothing was run elsewhere")
    stopped: str | None = Field(
        default=None, description="why the plan was not run to its end; images that are open may not have been attacked"
    )
    missing: list[str] = Field(
        default_factory=list, description="what could not be done or stored once the attack had ended, and why"
    )
    checks: SpentRecord = Field(
        default=SpentRecord(), description="of an attack without a budget, which is a leg only where it broke something"
    )

    @property
    def spent(self) -> SpentRecord:
        """Of all legs, and of what was attacked beside them."""
        parts = [*self.legs, self.checks]
        return SpentRecord(
            forwards=sum(part.forwards for part in parts),
            backwards=sum(part.backwards for part in parts),
            seconds=sum(part.seconds for part in parts),
        )


class Versions(Strict):
    """Versions of the software that ran."""

    robcert: str
    torch: str
    numpy: str
    python: str


class RunRecord(Record):
    """A whole run."""

    schema_: Literal["robcert.run/1"] = Field(default=SCHEMA, alias="schema")
    command: Literal["attack"] = "attack"
    spec_sha256: str
    versions: Versions
    device: str
    seed: int
    goal: Goal
    threat: ThreatRecord
    data: DataRecord
    models: list[ModelRecord]
    run: str | None = Field(description="the run directory")

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each model, image and eps."""
        return [
            {
                "model": model.name,
                "norm": self.threat.norm,
                "eps": eps,
                **scalars(image),
                "status": image.status[k] if isinstance(image.status, list) else image.status,
            }
            for model in self.models
            for image in model.images
            for k, eps in enumerate(self.threat.eps)
        ]


def schema() -> str:
    """The JSON schema of `RunRecord` (docs/schemas/run-1.json), as ``python -m robcert.runs.record`` prints it."""
    return json.dumps(RunRecord.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
