"""The records and tables of `robcert certify`."""

from __future__ import annotations

import json
import sys
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table
from torch import Tensor

from robcert.certify import Certificates
from robcert.certify.bins import Bin, gap_bins
from robcert.certify.hybrid import Switch
from robcert.math.binomial import interval
from robcert.runs.record import DataRecord, Interval, ThreatRecord
from robcert.runs.spec import data_record
from robcert.types import Dataset, LoadedModel, Threat


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CertifiedImage(_Strict):
    """One image. ``radius`` is of the executed float32 network, ``radius_real`` of the one in real arithmetic."""

    index: int
    label: int
    prediction: int
    gap: float
    radius: float
    radius_real: float
    binding: str = Field(description="which constant L_ij was the smallest; empty where the image is wrong")


class BinRecord(_Strict):
    """One bin of images sorted by confidence gap, the most confident first."""

    n: int
    largest_gap: float
    smallest_gap: float
    natural: int
    certified: int = Field(description="at the first eps")
    attacked: int | None


class SwitchRecord(_Strict):
    """A hybrid model: below the threshold another model answers."""

    fallback: str
    threshold: float
    delegated: int
    correct: int


class MethodRecord(_Strict):
    """One method of several that took part."""

    method: str
    images: int = Field(description="that it was asked about")
    certified: list[int] = Field(description="of these, at each eps, by it or by a method before it")
    first: list[int] = Field(description="of these, at each eps, by it and no method before it")
    seconds: float


class CertifiedModel(_Strict):
    """What is proven about one model by one method. Lists are in the order of eps."""

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
    images: list[CertifiedImage]


class CertifyRecord(_Strict):
    """What ``robcert certify --format json`` prints."""

    schema_: Literal["robcert.certify/1"] = Field(default="robcert.certify/1", alias="schema")
    method: str
    threat: ThreatRecord
    models: list[CertifiedModel] = Field(description="each with its own data, where their cards name different sets")

    @property
    def data_line(self) -> str:
        """All data sets in words."""
        parts = [f"{m.data.name} {m.data.split}, n {m.data.n}" for m in self.models]
        return "; ".join(dict.fromkeys(parts))

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)


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
    """From certificates to the record of one model; ``largest`` as in `robcert.certify.Search`."""
    n = len(data)
    labels = data.y.cpu()
    correct = found.prediction == labels
    certified = [int((found.radius > eps).sum()) for eps in threat.eps]
    real = [int((found.radius_real > eps).sum()) for eps in threat.eps]
    quartiles = torch.quantile(found.radius.clamp_max(1e300), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    parts: list[Bin] = gap_bins(found.gap, correct, found.radius > threat.eps[0], attacked, bins) if bins else []
    kinds = [kind for kind in found.binding if kind]
    return CertifiedModel(
        name=model.name,
        data=data_record(data),
        method=found.method,
        confidence=found.confidence,
        steps=[
            MethodRecord(
                method=name,
                images=len(part.radius),
                certified=[int((part.radius > eps).sum()) for eps in threat.eps],
                first=list(found.gained.get(name, ())),
                seconds=round(part.seconds, 3),
            )
            for name, part in found.alone.items()
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
        radii="largest" if largest or found.method in _CLOSED else "at eps",
        binding={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        certified_by=[_counts(found, found.radius > eps) for eps in threat.eps],
        constants=found.constants,
        refused=found.refused,
        bins=[BinRecord(**vars(part)) for part in parts],
        switch=[SwitchRecord(fallback=name, **vars(at)) for name, at in switches],
        seconds=round(found.seconds, 3),
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


_CLOSED = ("gap", "smoothing")
"""Methods whose radius has a closed form: no search ends at the last eps."""


def _counts(found: Certificates, rows: Tensor) -> dict[str, int]:
    kinds = [kind or "none" for kind, taken in zip(found.binding, rows.tolist(), strict=True) if taken]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def render_certify(record: CertifyRecord, console: Console) -> None:
    """The table of certified accuracy, the radii, and bins and switches where they were asked for."""
    threat = record.threat
    title = f"Certified accuracy ({record.method}), {threat.norm}, {record.data_line}"
    console.print(title, style="italic")
    if len({model.method for model in record.models}) > 1:
        for name in dict.fromkeys(model.name for model in record.models):
            own = [model for model in record.models if model.name == name]
            console.print(_accuracy(own, threat, [model.method for model in own], name))
    else:
        console.print(_accuracy(record.models, threat, [model.name for model in record.models], None))
    for model in record.models:
        _print_model(model, record.threat, console)


def _accuracy(models: list[CertifiedModel], threat: ThreatRecord, heads: list[str], title: str | None) -> Table:
    """A row an eps, a column a model (or a method, with its time)."""
    table = Table(title=title, title_justify="left")
    table.add_column("eps")
    for head in heads:
        table.add_column(head, justify="right", overflow="fold")
    table.add_row("Natural", *(_cell(m.natural_correct, m.n) for m in models), end_section=True)
    for k, eps in enumerate(threat.eps):
        table.add_row(f"{eps:g}", *(_cell(m.certified_correct[k], m.n) for m in models))
        reals = [_cell(m.certified_correct_real[k], m.n) for m in models]
        if any(m.certified_correct_real[k] != m.certified_correct[k] for m in models):
            table.add_row("  real arithmetic", *reals)
    if title is not None:
        table.add_section()
        table.add_row("ms an image", *(f"{1000 * m.seconds / max(1, m.n):.3g}" for m in models))
    return table


def _print_model(model: CertifiedModel, threat: ThreatRecord, console: Console) -> None:
    name = f"{model.name} ({model.method})"
    radii = f"median {model.median_radius:.4g}, quartiles {model.q25_radius:.4g} and {model.q75_radius:.4g}"
    radii = f"radius over all {model.n} images (0 where none is proven): {radii}"
    if model.radii == "at eps":
        radii = "radii were tested at eps only (--goal radius looks for the largest)"
    each = 1000 * model.seconds / max(1, model.n)
    if model.confidence is not None:
        console.print(
            f"{name}: probabilistic, about the classifier under noise of sigma {model.constants['sigma']:g}, not about "
            f"the network: each radius holds with confidence {model.confidence:g}; {model.constants['abstained']:g} "
            f"of {model.n} images abstained; {radii}; {each:.3g} ms an image"
        )
        return
    console.print(f"{name}: {radii}; average confidence gap {model.mean_gap:.4g}; {each:.3g} ms an image")
    for eps, count, by in zip(threat.eps, model.certified_correct, model.certified_by, strict=True):
        who = ", ".join(f"{kind} {images}" for kind, images in by.items())
        console.print(f"{name}: certified at eps {eps:g}: {count} of {model.n} images" + (f", by {who}" if who else ""))
    rounding = model.constants.get("rounding_float32")
    notes = ["rounding bound of a logit " + ("not known" if rounding is None else f"at most {rounding:.3g}")]
    if "lipschitz" in model.constants:
        notes.insert(0, f"Lipschitz constant {model.constants['lipschitz']:.4g}")
    if "looser_than_ibp_alone" in model.constants:
        notes.append(f"linear bounds looser than intervals for {100 * model.constants['looser_than_ibp_alone']:.2g}%")
    console.print(f"{name}: {', '.join(notes)}")
    if late := model.constants.get("out_of_time"):
        console.print(f"{name}: the time was up for {late:.0f} of {model.n} images; --time-per-image gives more")
    if model.refused:
        console.print(
            f"{name}: nothing is claimed about the network as float32 executes it, only about the one in real "
            f"arithmetic: {model.refused}"
        )
    if model.steps:
        table = Table(title=f"{name}, step by step", title_justify="left")
        for column in ("method", "images", "first to certify", "ms an image"):
            table.add_column(column, justify="left" if column == "method" else "right")
        for step in model.steps:
            counts = " / ".join(map(str, step.first))
            table.add_row(step.method, str(step.images), counts, f"{1000 * step.seconds / max(1, step.images):.3g}")
        console.print(table)
    if model.bins:
        table = Table(title=f"{model.name} by confidence gap", title_justify="left")
        for column in ("images", "gap", "natural", "certified", "attacked"):
            table.add_column(column, justify="right")
        for part in model.bins:
            shares = (_cell(part.natural, part.n), _cell(part.certified, part.n))
            attacked = "-" if part.attacked is None else _cell(part.attacked, part.n)
            table.add_row(str(part.n), f"{part.largest_gap:.3g} to {part.smallest_gap:.3g}", *shares, attacked)
        console.print(table)
    if model.switch:
        console.print(f"{model.name}, below the switch {model.switch[0].fallback}", style="italic")
        table = Table()
        for column in ("switch", "delegated", "accuracy"):
            table.add_column(column, justify="right")
        for at in model.switch:
            table.add_row(f"{at.threshold:.4g}", _cell(at.delegated, model.n), _cell(at.correct, model.n))
        console.print(table)


def _cell(count: int, n: int) -> str:
    return f"{100 * count / n:.1f}%" if n else "-"


def schema() -> str:
    """The JSON schema of `CertifyRecord` (docs/schemas/certify-1.json), as ``python -m`` with this module prints it."""
    return json.dumps(CertifyRecord.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
