"""The tables of `robcert jacobian`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from robcert.reports import renderer
from robcert.reports.printed import beside, printed
from robcert.runs.records.jacobian import JacobianRecord, SensitiveModel
from robcert.sensitivity.gradients import STATISTICS
from robcert.text import brief
from robcert.types import BoundNorm, dual

_FIRST = 23
"""Columns of the names of the rows."""


@renderer("console", JacobianRecord)
def render_jacobian(record: JacobianRecord) -> str:
    """A row a statistic, mean and maximum for each model; then bounds, estimates and correlations."""
    return printed(lambda console: _show(record, console))


def _show(record: JacobianRecord, console: Console) -> None:
    for some in beside(record.models, lambda model: 2 * (len(brief(model.name)) + 3), _FIRST):
        console.print(_statistics(record, some))
        console.print(_bounds(record, some))
    for model in record.models:
        _lines(model, record, console)


def _statistics(record: JacobianRecord, models: list[SensitiveModel]) -> Table:
    data = record.data
    rows = list(STATISTICS.items())
    if record.norm != "l2":
        rows += [(name, title) for name, title in _dual_rows(record.norm) if name in models[0].statistics]
    cells = {
        title: [_text(v) for m in models for v in (m.statistics[name].mean, m.statistics[name].max)]
        for name, title in rows
    }
    return _table(f"Gradient norms, {data.name} {data.split}, n {data.n}", models, ("mean", "max"), cells)


def _bounds(record: JacobianRecord, models: list[SensitiveModel]) -> Table:
    norm = record.norm
    cells = {
        title: [_text(v) for one in at for v in (one.measured, one.bound)]
        for title, at in (
            (f"J, {norm} to {norm}", [model.operator for model in models]),
            ("a logit", [model.logit for model in models]),
        )
    }
    return _table(f"Largest on the data and bound of the graph, {norm}", models, ("measured", "bound"), cells)


def _table(title: str, models: list[SensitiveModel], ends: tuple[str, str], rows: dict[str, list[str]]) -> Table:
    """Two columns a model."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for model in models:
        for column in ends:
            table.add_column(f"{brief(model.name)}\n{column}", justify="right", overflow="fold")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _lines(model: SensitiveModel, record: JacobianRecord, console: Console) -> None:
    if model.refused:
        console.print(f"{brief(model.name)}: no bound of the graph: {model.refused}")
    far = "beyond the box"
    loss, margin = _text(model.median_distance_by_loss, far), _text(model.median_distance_by_margin, far)
    console.print(
        f"{brief(model.name)}: median estimated {record.norm} distance over all {model.n} images: "
        f"{loss} (loss, eq. 3.7), {margin} (margin)"
    )
    if model.correlation:
        c = model.correlation
        console.print(
            f"{brief(model.name)}: rank correlation with the distances of {c.run}: {_text(c.loss, '-')} (loss, "
            f"eq. 3.7), {_text(c.margin, '-')} (margin), {_text(c.gap, '-')} (confidence gap)"
        )


def _dual_rows(norm: BoundNorm) -> list[tuple[str, str]]:
    written = {"l1": "1", "l2": "2", "linf": "inf"}
    to = written[norm]
    return [
        ("operator", f"||J||, {to} to {to}"),
        ("row-dual", f"||J||_{written[dual(norm)]},inf"),
        ("margin-dual", f"||grad margin||_{written[dual(norm)]}"),
    ]


def _text(value: float | None, missing: str = "inf") -> str:
    return missing if value is None else f"{value:.4g}"
