"""The table and the error curves of `robcert compare`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.table import Table

from robcert.plotting import COLORS, legend_above, percents, style
from robcert.reports import renderer
from robcert.reports.figures import save
from robcert.reports.printed import beside, printed
from robcert.runs.records.compare import PREDICTORS, CompareRecord, LineRecord
from robcert.sensitivity.gradients import STATISTICS
from robcert.text import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIRST = 39
"""Columns of the names of the rows."""


@renderer("console", CompareRecord)
def render_compare(record: CompareRecord) -> str:
    """Table 5 of paper E: actual improvement beside the predicted ones; a column a line."""
    return printed(lambda console: _show(record, console))


def _show(record: CompareRecord, console: Console) -> None:
    data = record.data
    title = f"Comparison, {record.norm}, {data.name} {data.split}, n {data.n}"
    for lines in beside(record.lines, lambda line: max(9, len(brief(line.label))) + 3, _FIRST):
        console.print(_table(title, record, lines))
    for line in record.lines:
        if line.limit is not None:
            console.print(
                f"{brief(line.label)}: images that are certified beyond {line.limit:g} were not attacked, so nothing "
                "is known of larger distances. Attack with a larger --eps, or with --certify none."
            )
    console.print(
        f"Improvements are over {brief(record.lines[0].label)}. Predicted: how many times smaller the gradient norm "
        "is. Calls: forwards and backwards of the leg and restart that found the closest example, up to it."
    )


def _table(title: str, record: CompareRecord, lines: list[LineRecord]) -> Table:
    """Some of the lines, a column each; the same rows for all of the record."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for line in lines:
        table.add_column(brief(line.label), justify="right", overflow="fold")
    table.add_row("median distance", *(_text(line.median_distance, "not known") for line in lines))
    table.add_row("actual improvement", *(_times(line.improvement) for line in lines))
    if any(line.predicted for line in record.lines):
        table.add_section()
        for name in PREDICTORS:
            for kind in ("mean", "max"):
                cells = [_times(getattr(line.predicted[name], kind)) for line in lines]
                table.add_row(f"predicted, {kind} {STATISTICS[name]}", *cells)
    table.add_section()
    table.add_row("median calls to it", *(_text(line.median_calls, "-") for line in lines))
    titles = {"loss": "loss estimate", "margin": "margin estimate", "gap": "confidence gap"}
    for name, title in titles.items():
        if any(line.rank_correlation for line in record.lines):
            cells = [_text(line.rank_correlation.get(name), "-") for line in lines]
            table.add_row(f"rank correlation, {title}", *cells)
    return table


def draw_curves(record: CompareRecord, output: Path) -> None:
    """Draw error curves, one for each model or attack (paper E, figures 2 and 3), with the uncertified share dashed.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    drawn: list[tuple[str, list[float]]] = []
    limits = [math.inf if line.limit is None else line.limit for line in record.lines]
    distances = [_doubles(line.distance) for line in record.lines]
    every = torch.cat([d[d <= min(limit, 1e300)] for d, limit in zip(distances, limits, strict=True)])
    most = float(every.max()) if len(every) and float(every.max()) > 0 else 1.0
    with style():
        figure = Figure(figsize=(8.4, 4.8), layout="constrained")
        axes = figure.subplots()
        for k, (line, distance, limit) in enumerate(zip(record.lines, distances, limits, strict=True)):
            end = min(most, limit)
            _step(axes, k, line.label, distance, line.error, end)
            radius = None if line.radius is None else _doubles(line.radius)
            # Several attacks on one model leave the same images uncertified: one line for all of them.
            if radius is None or (line.model, radius.tolist()) in drawn:
                continue
            drawn.append((line.model, radius.tolist()))
            _step(axes, k, f"{line.model}: not certified", radius, line.uncertified, end, dashed=True)
        axes.axhline(0.5, color="grey", linewidth=0.8)
        axes.set_xlim(-0.02 * most, 1.02 * most)
        axes.set_ylim(-0.03, 1.03)
        percents(axes.yaxis)
        axes.set_xlabel(f"{record.norm} distance")
        axes.set_ylabel("wrong or broken, share of images")
        legend_above(figure, axes)
        save(figure, output)


def _step(
    axes: Axes,
    number: int,
    label: str,
    values: torch.Tensor,
    share: Callable[[torch.Tensor], torch.Tensor | None],
    end: float,
    *,
    dashed: bool = False,
) -> None:
    """Draw a share of images that changes at the values, up to an end."""
    inside = values[values < end].unique()
    eps = torch.cat([torch.zeros(1).double(), inside, torch.tensor([end]).double()])
    shares = share(eps)
    assert shares is not None
    color, dashes = COLORS[number % len(COLORS)], "--" if dashed else "-"
    axes.step(eps.numpy(), shares.numpy(), where="post", color=color, linestyle=dashes, label=label)


def _doubles(values: Sequence[float | None]) -> torch.Tensor:
    """(n,) float64; null is infinite."""
    return torch.tensor([math.inf if value is None else value for value in values], dtype=torch.float64)


def _text(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.4g}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
