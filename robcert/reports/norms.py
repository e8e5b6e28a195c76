"""The records and tables of `robcert norms`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console, Group, RenderableType
from rich.table import Table

from robcert.lipschitz.graph import GraphBound
from robcert.types import LoadedModel


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class PaperNormRecord(_Strict):
    """What a paper computes for the l2 norm of a layer, for comparison: no certificate uses it."""

    name: str = Field(description='"eq. 3", "b(W)", "Frobenius" or "reshaped"')
    value: float
    bound: bool = Field(description="whether it is an upper bound of the layer's l2 norm")
    note: str


class LayerNorms(_Strict):
    """The norms of one layer; null where a constant is infinite (``note`` says why) or was not computed."""

    name: str
    op: str
    in_shape: list[int]
    out_shape: list[int]
    l1: float | None
    linf: float | None
    l2_lower: float | None
    l2_upper: float | None
    linear: bool
    method: str = Field(description="what found l2_upper")
    note: str
    papers: list[PaperNormRecord] = Field(description="with --papers, for convolutions and matrices; else empty")


class ThreeNorms(_Strict):
    """One number a norm; null where it is infinite."""

    l2: float | None
    linf: float | None
    l1: float | None


class ModelNorms(_Strict):
    """All layers of one model, the product of their norms, and the bound of the graph."""

    name: str
    sha256: str
    layers: list[LayerNorms]
    product: ThreeNorms
    lipschitz: ThreeNorms
    lipschitz_logit: ThreeNorms = Field(description="the largest constant of a single logit")
    seconds: float


class NormsRecord(_Strict):
    """What ``robcert norms --format json`` prints."""

    schema_: Literal["robcert.norms/1"] = Field(default="robcert.norms/1", alias="schema")
    models: list[ModelNorms]

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)


def norms_record(bounds: Sequence[tuple[LoadedModel, GraphBound]]) -> NormsRecord:
    """From graph bounds to the record."""
    return NormsRecord(models=[_model(model, bound) for model, bound in bounds])


def render_norms(record: NormsRecord, console: Console) -> None:
    """A table a model: a row a layer, then the product and the bound of the graph; then the papers' bounds."""
    for model in record.models:
        console.print(_table(model))
        if any(layer.papers for layer in model.layers):
            console.print(_papers(model))


def _table(model: ModelNorms) -> RenderableType:
    table = Table(title=f"Layer norms of {model.name}", title_justify="left")
    for column in ("layer", "op", "in", "out"):
        table.add_column(column, overflow="fold")
    for column in ("l1", "l-inf", "l2 from", "l2 to"):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in model.layers:
        shapes = ("x".join(str(size) for size in shape) for shape in (layer.in_shape, layer.out_shape))
        values = (_text(layer.l1), _text(layer.linf), _text(layer.l2_lower, "-"), _text(layer.l2_upper))
        table.add_row(layer.name, layer.op, *shapes, *values)
    table.add_section()
    for name, three in (
        ("product", model.product),
        ("graph bound", model.lipschitz),
        ("a logit", model.lipschitz_logit),
    ):
        table.add_row(name, "", "", "", _text(three.l1), _text(three.linf), "", _text(three.l2))
    notes = [f"{layer.name}: {layer.note}" for layer in model.layers if layer.note]
    return Group(table, *notes)


def _papers(model: ModelNorms) -> RenderableType:
    table = Table(title=f"What papers use for the l2 norms of {model.name}", title_justify="left")
    shown = [layer for layer in model.layers if layer.papers]
    names = [paper.name for paper in shown[0].papers]
    table.add_column("layer", overflow="fold")
    for column in ("l2 from", "l2 to", *names):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in shown:
        given = (f"{_text(paper.value)}{'' if paper.bound else ' *'}" for paper in layer.papers)
        table.add_row(layer.name, _text(layer.l2_lower, "-"), _text(layer.l2_upper), *given)
    notes = dict.fromkeys(f"{paper.name}: {paper.note}" for layer in shown for paper in layer.papers)
    star = ["* not an upper bound of the layer"] if any(not p.bound for layer in shown for p in layer.papers) else []
    return Group(table, *star, *notes)


def _model(model: LoadedModel, bound: GraphBound) -> ModelNorms:
    layers = [
        LayerNorms(
            name=row.name,
            op=row.op,
            in_shape=list(row.in_shape),
            out_shape=list(row.out_shape),
            l1=_finite(row.l1),
            linf=_finite(row.linf),
            l2_lower=None if row.l2_lower is None else _finite(row.l2_lower),
            l2_upper=_finite(row.l2_upper),
            linear=row.linear,
            method=row.method,
            note=row.note,
            papers=[PaperNormRecord(**vars(paper)) for paper in row.papers],
        )
        for row in bound.rows
    ]
    whole = {norm: _finite(found.whole) for norm, found in bound.bounds.items()}
    single = {norm: _finite(float(found.logits.max())) for norm, found in bound.bounds.items()}
    return ModelNorms(
        name=model.name,
        sha256=model.source.sha256,
        layers=layers,
        product=ThreeNorms(**{norm: _finite(value) for norm, value in bound.product.items()}),
        lipschitz=ThreeNorms(**whole),
        lipschitz_logit=ThreeNorms(**single),
        seconds=round(bound.seconds, 3),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(value: float | None, missing: str = "inf") -> str:
    return missing if value is None else f"{value:.4g}"


def schema() -> str:
    """The JSON schema (docs/schemas/norms-1.json), as ``python -m robcert.reports.norms`` prints it."""
    return json.dumps(NormsRecord.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
