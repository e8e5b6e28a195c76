"""The record of `robcert certify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from robcert.certificates import Certificates, certificates
from robcert.certificates.bins import Bin, gap_bins
from robcert.math.binomial import interval
from robcert.runs.out_of_time import out_of_time
from robcert.runs.record import DataRecord, Interval, OutOfTime, Strict, ThreatRecord
from robcert.runs.records import Record, scalars
from robcert.runs.spec import data_record
from robcert.types import Dataset, LoadedModel, Threat

if TYPE_CHECKING:
    from robcert.certificates.hybrid import Switch


class CertifiedImage(Strict):
    """One image. ``radius`` is of the executed float32 network, ``radius_real`` of the one in real arithmetic."""

    index: int
    label: int
    prediction: int
    gap: float
    radius: float
    radius_real: float
    binding: str = Field(description="which constant L_ij was the smallest; empty where the image is wrong")


class BinRecord(Strict):
    """One bin of images sorted by confidence gap, the most confident first."""

    n: int
    largest_gap: float
    smallest_gap: float
    natural: int
    certified: int = Field(description="at the first eps")
    attacked: int | None


class SwitchRecord(Strict):
    """A hybrid model: below the threshold another model answers."""

    fallback: str
    threshold: float
    delegated: int
    correct: int


class MethodRecord(Strict):
    """One method of several that took part."""

    method: str
    images: int = Field(description="that it was asked about")
    certified: list[int] = Field(description="of these, at each eps, by it or by a method before it")
    first: list[int] = Field(description="of these, at each eps, by it and no method before it")
    seconds: float


class CertifiedModel(Strict):
    """Proofs about one model by one method. Lists are in the order of eps."""

    name: str
    data: DataRecord
    method: str
    confidence: float | None = Field(
        description="null for a proof; else every single radius holds with this confidence, for the smoothed classifier"
    )
    steps: list[MethodRecord] = Field(description="the methods that best consists of, in the order of their cost")
    sha256: str
    n: int
    natural_correct: int
    natural_interval: Interval
    certified_correct: list[int]
    certified_correct_real: list[int]
    certified_interval: list[Interval]
    median_radius: float
    q25_radius: float
    q75_radius: float
    mean_gap: float
    radii: Literal["largest", "at eps"] = Field(
        default="largest",
        description="at eps: only these were tested, so that a radius ends there",
    )
    binding: dict[str, int] = Field(
        description="for how many images each constant was the smallest (best: each method had the largest radius)"
    )
    certified_by: list[dict[str, int]] = Field(
        default_factory=list[dict[str, int]], description="the same of the images that are certified, at each eps"
    )
    constants: dict[str, float]
    refused: str = Field(description="why nothing is claimed about the executed network (every radius is 0), or empty")
    bins: list[BinRecord]
    switch: list[SwitchRecord]
    seconds: float
    out_of_time: list[OutOfTime] = Field(
        default_factory=list[OutOfTime], description="images that reached --time-per-image undecided"
    )
    images: list[CertifiedImage]


class CertifyRecord(Record):
    """The output of ``robcert certify --format json``."""

    schema_: Literal["robcert.certify/1"] = Field(default="robcert.certify/1", alias="schema")
    method: str
    threat: ThreatRecord
    models: list[CertifiedModel] = Field(description="each with its own data, where their cards name different sets")

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each model, method and image."""
        return [
            {"model": model.name, "method": model.method, "norm": self.threat.norm, **scalars(image)}
            for model in self.models
            for image in model.images
        ]

    @property
    def data_line(self) -> str:
        """All data sets in words."""
        parts = [f"{m.data.name} {m.data.split}, n {m.data.n}" for m in self.models]
        return "; ".join(dict.fromkeys(parts))


def certified_model(
    model: LoadedModel,
    data: Dataset,
    threat: Threat,
    found: Certificates,
    bins: int,
    attacked: Tensor | None,
    switches: list[tuple[str, Switch]],
    largest: bool = True,
) -> CertifiedModel:
    """From certificates to the record of one model; ``largest`` as in `robcert.certificates.Search`."""
    from robcert.certificates.best import LadderEvidence  # and with it every method: who reads a record needs none

    n = len(data)
    labels = data.y.cpu()
    correct = found.prediction == labels
    certified = [int((found.radius > eps).sum()) for eps in threat.eps]
    real = [int((found.radius_real > eps).sum()) for eps in threat.eps]
    quartiles = torch.quantile(found.radius.clamp_max(1e300), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    parts: list[Bin] = gap_bins(found.gap, correct, found.radius > threat.eps[0], attacked, bins) if bins else []
    kinds = [kind for kind in found.binding if kind]
    steps = found.evidence.steps if isinstance(found.evidence, LadderEvidence) else {}
    return CertifiedModel(
        name=model.name,
        data=data_record(data),
        method=found.method,
        confidence=getattr(found.evidence, "confidence", None),
        steps=[
            MethodRecord(
                method=name,
                images=len(step.found.radius),
                certified=[int((step.found.radius > eps).sum()) for eps in threat.eps],
                first=list(step.first),
                seconds=round(step.found.seconds, 3),
            )
            for name, step in steps.items()
        ],
        sha256=model.source.sha256,
        n=n,
        natural_correct=int(correct.sum()),
        natural_interval=interval(int(correct.sum()), n),
        certified_correct=certified,
        certified_correct_real=real,
        certified_interval=[interval(count, n) for count in certified],
        median_radius=float(quartiles[1]),
        q25_radius=float(quartiles[0]),
        q75_radius=float(quartiles[2]),
        mean_gap=float(found.gap.mean()),
        radii="largest" if largest or certificates.get(found.method).closed_form else "at eps",
        binding={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        certified_by=[_counts(found, found.radius > eps) for eps in threat.eps],
        constants=found.constants,
        refused=found.refused,
        bins=[BinRecord(**vars(part)) for part in parts],
        switch=[SwitchRecord(fallback=name, **vars(at)) for name, at in switches],
        seconds=round(found.seconds, 3),
        out_of_time=out_of_time(found, data.index),
        images=[
            CertifiedImage(
                index=int(data.index[i]),
                label=int(labels[i]),
                prediction=int(found.prediction[i]),
                gap=float(found.gap[i]),
                radius=min(float(found.radius[i]), 1e300),
                radius_real=min(float(found.radius_real[i]), 1e300),
                binding=found.binding[i],
            )
            for i in range(n)
        ],
    )


def _counts(found: Certificates, rows: Tensor) -> dict[str, int]:
    kinds = [kind or "none" for kind, taken in zip(found.binding, rows.tolist(), strict=True) if taken]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
