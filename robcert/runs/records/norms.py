"""The record of `robcert norms`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from robcert.runs.record import Strict
from robcert.runs.records import Record, scalars
from robcert.types import LoadedModel

if TYPE_CHECKING:
    from robcert.bounds.lipschitz.network_bound import GraphBound


class PaperNormRecord(Strict):
    """A paper's number for the l2 norm of a layer, for comparison: no certificate uses it."""

    name: str = Field(description='"eq. 3", "b(W)", "Frobenius" or "reshaped"')
    value: float
    bound: bool = Field(description="whether it is an upper bound of the layer's l2 norm")
    note: str


class LayerNorms(Strict):
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


class ThreeNorms(Strict):
    """One number a norm; null where it is infinite."""

    l2: float | None
    linf: float | None
    l1: float | None


class ModelNorms(Strict):
    """All layers of one model, the product of their norms, and the bound of the graph."""

    name: str
    sha256: str
    layers: list[LayerNorms]
    product: ThreeNorms
    lipschitz: ThreeNorms
    lipschitz_logit: ThreeNorms = Field(description="the largest constant of a single logit")
    seconds: float


class NormsRecord(Record):
    """The output of ``robcert norms --format json``."""

    schema_: Literal["robcert.norms/1"] = Field(default="robcert.norms/1", alias="schema")
    models: list[ModelNorms]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each model and layer."""
        return [{"model": model.name, **scalars(layer)} for model in self.models for layer in model.layers]


def norms_record(bounds: Sequence[tuple[LoadedModel, GraphBound]]) -> NormsRecord:
    """From graph bounds to the record."""
    return NormsRecord(models=[_model(model, bound) for model, bound in bounds])


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
