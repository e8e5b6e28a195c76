"""The tables of `robcert norms`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table

from robcert.reports import renderer
from robcert.reports.printed import columns, printed
from robcert.runs.records.norms import ModelNorms, NormsRecord
from robcert.text import brief

_WIDE = 76
"""Columns from which on the shapes of the layers are shown too."""


@renderer("console", NormsRecord)
def render_norms(record: NormsRecord) -> str:
    """A table a model: a row a layer, then the product and the bound of the graph; then the papers' bounds."""
    return printed(lambda console: _show(record, console))


def _show(record: NormsRecord, console: Console) -> None:
    for model in record.models:
        console.print(_table(model))
        if any(layer.papers for layer in model.layers):
            console.print(_papers(model))


def _table(model: ModelNorms) -> RenderableType:
    table = Table(title=f"Layer norms of {brief(model.name)}", title_justify="left")
    wide = columns() >= _WIDE
    for column in ("layer", "op", "in", "out") if wide else ("layer", "op"):
        table.add_column(column, overflow="fold")
    for column in ("l1", "l-inf", "l2 from", "l2 to"):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in model.layers:
        shapes = ("x".join(str(size) for size in shape) for shape in (layer.in_shape, layer.out_shape))
        values = (_text(layer.l1), _text(layer.linf), _text(layer.l2_lower, "-"), _text(layer.l2_upper))
        table.add_row(layer.name, layer.op, *(shapes if wide else ()), *values)
    table.add_section()
    for name, three in (
        ("product", model.product),
        ("graph bound", model.lipschitz),
        ("a logit", model.lipschitz_logit),
    ):
        table.add_row(name, *([""] * (3 if wide else 1)), _text(three.l1), _text(three.linf), "", _text(three.l2))
    notes = [f"{layer.name}: {layer.note}" for layer in model.layers if layer.note]
    return Group(table, *notes)


def _papers(model: ModelNorms) -> RenderableType:
    table = Table(title=f"What papers use for the l2 norms of {brief(model.name)}", title_justify="left")
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


def _text(value: float | None, missing: str = "inf") -> str:
    return missing if value is None else f"{value:.4g}"
