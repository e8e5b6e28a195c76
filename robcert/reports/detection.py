"""The tables and pictures of `robcert detect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from robcert.plotting import COLORS, dash, legend_above, percents, style
from robcert.reports import renderer
from robcert.reports.figures import save
from robcert.reports.histograms import outlines
from robcert.reports.printed import printed
from robcert.runs.record import Interval
from robcert.runs.records.detect import DetectRecord, ScreenRecord
from robcert.sensitivity.gradients import STATISTICS

if TYPE_CHECKING:
    from robcert.sensitivity.detection import Detection


@renderer("console", DetectRecord)
def render_detect(record: DetectRecord) -> str:
    """Table 6 of paper E: a row a source of images."""
    return printed(lambda console: _show(record, console))


def _show(record: DetectRecord, console: Console) -> None:
    data, threshold = record.data, record.threshold
    table = Table(title=f"Detection on {record.model}, {data.name} {data.split}, l2", title_justify="left")
    table.add_column("image source")
    for column in ("images", "found", "attack detected?", "median l2", "AUC"):
        table.add_column(column, justify="right", no_wrap=True)
    clean = record.clean
    table.add_row("clean", str(clean.n), "", _share(clean.rejected, clean.n, clean.interval), "-", "", end_section=True)
    for one in record.attacks:
        distance = "none found" if one.median_distance is None else f"{one.median_distance:.3f}"
        area = "-" if one.area is None else f"{one.area:.3f}"
        detected = _share(one.detected, one.tried, one.interval)
        table.add_row(one.attack, str(one.attacked), str(one.found), detected, distance, area)
    console.print(table)
    console.print(
        f"An image is rejected if {STATISTICS[threshold.statistic]} > {threshold.value:.4g}: the {threshold.rank}th of "
        f"{threshold.n} clean images ({threshold.data} {threshold.split}), for {100 * threshold.rate:g} % false "
        "positives."
    )
    low, high = clean.predicted
    inside = "inside" if low <= clean.rejected <= high else "OUTSIDE"
    console.print(
        f"False positives: {clean.rejected} of {clean.n}, {inside} the 95 % prediction interval [{low}, {high}] "
        "(beta-binomial)."
    )
    if record.adaptive:
        console.print(
            "An adaptive attack is detected on an image for which it found no example that passes the detector; its "
            "median counts these as infinitely far."
        )
    else:
        console.print(
            "warning: only attacks that know nothing of the detector were run: these rates say nothing about an "
            "adversary who does. Add evasive-cw to --plan."
        )


@renderer("console", ScreenRecord)
def render_screen(record: ScreenRecord) -> str:
    """A row a file."""
    return printed(lambda console: _show_screened(record, console))


def _show_screened(record: ScreenRecord, console: Console) -> None:
    threshold = record.threshold
    title = f"{record.model}: rejected if {STATISTICS[threshold.statistic]} > {threshold.value:.4g}"
    table = Table(title=title, title_justify="left")
    table.add_column("file", overflow="fold")
    for column in ("answer", "value", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for row in record.files:
        table.add_row(row.file, row.answer, f"{row.value:.4g}", "rejected" if row.rejected else "passed")
    console.print(table)
    console.print(f"{record.rejected} of {len(record.files)} files are rejected.")


def draw_detection(found: Detection, output: Path) -> None:
    """Histograms of the statistic (paper E, figure 4) beside the ROC curves.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    from robcert.sensitivity.detection import roc

    groups = {"clean": found.clean.tolist()}
    groups |= {one.name: one.values.tolist() for one in found.results if one.found}
    with style():
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        outlines(left, found.threshold.statistic, groups, found.threshold.value)
        for k, one in enumerate(found.results, start=1):
            if one.area is not None:
                name = f"{one.name} (AUC {one.area:.3f})"
                right.plot(*roc(found.clean, one.values), color=COLORS[k % len(COLORS)], linestyle=dash(k), label=name)
        right.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        right.axvline(found.threshold.rate, color="black", linestyle="--", linewidth=1)
        right.set_title("detection rate by rate of false positives")
        right.set_xlabel("false positives, share of clean images")
        right.set_ylabel("detected, share of attacked images")
        percents(right.xaxis)
        percents(right.yaxis)
        right.margins(0.03)
        right.legend(loc="lower right")
        legend_above(figure, left)
        save(figure, output)


def _share(count: int, n: int, bounds: Interval) -> str:
    if not n:
        return "-"
    low, high = (100 * bound for bound in bounds)
    return f"{100 * count / n:.1f}% [{low:.1f}, {high:.1f}]"
