"""The record, the table and the error curves of `robcert compare`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from robcert.reports.figures import save
from robcert.runs.compare import Comparison, Line
from robcert.runs.record import DataRecord
from robcert.sensitivity.gradients import STATISTICS
from robcert.types import Norm

_COLUMNS = 3
"""Lines beside each other: with names of 20 characters a table is 110 wide."""
PREDICTORS = ("loss-l2", "probability", "row", "margin")
"""The norms whose ratios are compared with that of the distances."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Improvement(_Strict):
    """Over the first line: how many times the norm is smaller, by its mean (total variation) and by its maximum."""

    mean: float | None
    max: float | None


class LineRecord(_Strict):
    """One model in one run."""

    label: str
    run: str
    model: str
    attacks: list[str]
    median_distance: float | None = Field(
        description="null where it is not known: too few examples, or beyond the limit"
    )
    limit: float | None = Field(description="distance beyond which certified images were not attacked; null: none is")
    improvement: float | None = Field(description="of the median distance, over the first line")
    predicted: dict[str, Improvement] = Field(description="by the statistic of `robcert jacobian`")
    median_calls: float | None = Field(description="model calls up to the closest example, over the broken images")
    rank_correlation: dict[str, float | None] = Field(description="of distance with estimates from one gradient")
    distance: list[float | None] = Field(description="per image; 0 where wrong, null where no example was found")
    radius: list[float] | None


class CompareRecord(_Strict):
    """What ``robcert compare --format json`` prints."""

    schema_: Literal["robcert.compare/1"] = Field(default="robcert.compare/1", alias="schema")
    norm: Norm
    data: DataRecord
    lines: list[LineRecord]

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)


def compare_record(found: Comparison) -> CompareRecord:
    """From lines to the record."""
    lines = [_line(line, found.lines[0]) for line in found.lines]
    return CompareRecord(norm=found.norm, data=found.data, lines=lines)


def render_compare(record: CompareRecord, console: Console) -> None:
    """Table 5 of paper E: actual improvement beside the predicted ones; a column a line."""
    data = record.data
    title = f"Comparison, {record.norm}, {data.name} {data.split}, n {data.n}"
    for first in range(0, len(record.lines), _COLUMNS):
        console.print(_table(title, record, record.lines[first : first + _COLUMNS]))
    for line in record.lines:
        if line.limit is not None:
            console.print(
                f"{line.label}: images that are certified beyond {line.limit:g} were not attacked, so nothing is known "
                "of larger distances. Attack with a larger --eps, or with --certify none."
            )
    console.print(
        f"Improvements are over {record.lines[0].label}. Predicted: how many times smaller the gradient norm is. "
        "Calls: forwards and backwards of the leg and restart that found the closest example, up to it."
    )


def _table(title: str, record: CompareRecord, lines: list[LineRecord]) -> Table:
    """Some of the lines, a column each; the same rows for all of the record."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for line in lines:
        table.add_column(line.label, justify="right", overflow="fold")
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


def draw_curves(found: Comparison, output: Path) -> None:
    """Error curves, a line a model or attack (paper E, figures 2 and 3), with the uncertified share above, dashed.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axis = figure.subplots()
    drawn: list[tuple[str, list[float]]] = []
    every = torch.cat([line.distance[line.distance <= min(line.limit, 1e300)] for line in found.lines])
    most = float(every.max()) if len(every) and float(every.max()) > 0 else 1.0
    for k, line in enumerate(found.lines):
        end = min(most, line.limit)
        for values, style in ((line.distance, "-"), (line.radius, "--")):
            if values is None:
                continue
            inside = values[values < end].unique()
            eps = torch.cat([torch.zeros(1).double(), inside, torch.tensor([end]).double()])
            shares = line.error(eps) if style == "-" else line.uncertified(eps)
            assert shares is not None
            # Several attacks on one model leave the same images uncertified: one line for all of them.
            same = (line.model, values.tolist())
            if style == "--" and same in drawn:
                continue
            drawn += [same] if style == "--" else []
            label = line.label if style == "-" else f"{line.model}: not certified"
            axis.step(eps.numpy(), shares.numpy(), where="post", color=f"C{k}", linestyle=style, label=label)
    axis.axhline(0.5, color="grey", linewidth=0.6)
    axis.set_xlim(0, most)
    axis.set_ylim(0, 1.01)
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.set_xlabel(f"{found.norm} distance")
    axis.set_ylabel("share of images that are wrong or broken")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    save(figure, output)


def _line(line: Line, first: Line) -> LineRecord:
    predicted: dict[str, Improvement] = {}
    one, other = first.gradients, line.gradients
    if one is not None and other is not None:
        for name in PREDICTORS:
            predicted[name] = Improvement(
                mean=_ratio(one.mean(name), other.mean(name)), max=_ratio(one.largest(name), other.largest(name))
            )
    return LineRecord(
        label=line.label,
        run=line.run,
        model=line.model,
        attacks=list(line.attacks),
        median_distance=_finite(line.median),
        limit=_finite(line.limit),
        improvement=_ratio(line.median, first.median),
        predicted=predicted,
        median_calls=line.calls,
        rank_correlation={} if line.correlations is None else dict(vars(line.correlations)),
        distance=[_finite(value) for value in line.distance.tolist()],
        radius=None if line.radius is None else line.radius.tolist(),
    )


def _ratio(above: float, below: float) -> float | None:
    return above / below if math.isfinite(above) and math.isfinite(below) and below > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.4g}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def schema() -> str:
    """The JSON schema (docs/schemas/compare-1.json), as ``python -m robcert.reports.compare`` prints it."""
    return json.dumps(CompareRecord.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
