"""The records, tables and pictures of `robcert detect`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from robcert.math.binomial import interval
from robcert.reports.figures import save
from robcert.reports.histograms import outlines
from robcert.runs.record import DataRecord, Interval
from robcert.runs.spec import data_record
from robcert.sensitivity.detection import Caught, Detection, roc
from robcert.sensitivity.gradients import STATISTICS
from robcert.sensitivity.threshold import Threshold
from robcert.types import Dataset, LoadedModel


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CleanRecord(_Strict):
    """The false positives: clean test images that are rejected."""

    n: int
    rejected: int
    interval: Interval = Field(description="exact 95 % interval of the rate")
    predicted: tuple[int, int] = Field(description="95 % beta-binomial prediction interval of the number")
    right: int = Field(description="clean images that the model answers right")


class CaughtRecord(_Strict):
    """One attack. ``detected`` counts out of ``tried``: examples; for an adaptive attack, attacked images."""

    attack: str
    adaptive: bool
    attacked: int
    found: int = Field(description="images with an example; for an adaptive attack, with one that passes the detector")
    tried: int
    detected: int
    interval: Interval
    median_distance: float | None = Field(description="l2, over the attacked images; null where too few were found")
    area: float | None = Field(
        description="under the ROC curve of clean images against the examples; null for an adaptive attack"
    )
    roc: tuple[list[float], list[float]] | None = Field(description="false and true positive rates")
    forwards: int = Field(description="images passed forward by the attack, verification included")
    backwards: int


class DetectRecord(_Strict):
    """What ``robcert detect --format json`` prints."""

    schema_: Literal["robcert.detect/1"] = Field(default="robcert.detect/1", alias="schema")
    model: str
    sha256: str
    threshold: Threshold
    data: DataRecord
    clean: CleanRecord
    attacks: list[CaughtRecord]
    adaptive: bool = Field(description="whether an attack on the detector itself was among them")

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)


class ScreenedRecord(_Strict):
    """One file: the model's answer, the statistic, and whether it is rejected."""

    file: str
    answer: str
    value: float
    rejected: bool


class ScreenRecord(_Strict):
    """What ``robcert detect --images DIR --format json`` prints."""

    schema_: Literal["robcert.screen/1"] = Field(default="robcert.screen/1", alias="schema")
    model: str
    sha256: str
    threshold: Threshold
    rejected: int
    files: list[ScreenedRecord]

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)


def detect_record(model: LoadedModel, test: Dataset, found: Detection) -> DetectRecord:
    """From a detection to its record."""
    n = len(test)
    return DetectRecord(
        model=model.name,
        sha256=model.source.sha256,
        threshold=found.threshold,
        data=data_record(test),
        clean=CleanRecord(
            n=n,
            rejected=found.rejected,
            interval=interval(found.rejected, n),
            predicted=found.threshold.false_positives(n),
            right=found.right,
        ),
        attacks=[_caught(one, found) for one in found.caught],
        adaptive=any(one.adaptive for one in found.caught),
    )


def render_detect(record: DetectRecord, console: Console) -> None:
    """Table 6 of paper E: a row a source of images."""
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


def screen_record(
    model: LoadedModel, threshold: Threshold, files: list[Path], answers: list[str], values: list[float]
) -> ScreenRecord:
    """From screened files to the record."""
    rows = [
        ScreenedRecord(file=str(file), answer=answer, value=value, rejected=not value <= threshold.value)
        for file, answer, value in zip(files, answers, values, strict=True)
    ]
    return ScreenRecord(
        model=model.name,
        sha256=model.source.sha256,
        threshold=threshold,
        rejected=sum(row.rejected for row in rows),
        files=rows,
    )


def render_screen(record: ScreenRecord, console: Console) -> None:
    """A row a file."""
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

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    groups = {"clean": found.clean.tolist()}
    groups |= {one.name: one.values.tolist() for one in found.caught if one.found}
    outlines(left, STATISTICS[found.threshold.statistic], groups, found.threshold.value)
    left.legend(fontsize=8)
    for one in found.caught:
        if one.area is not None:
            right.plot(*roc(found.clean, one.values), label=f"{one.name} (AUC {one.area:.3f})")
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    right.axvline(found.threshold.rate, color="black", linestyle="--", linewidth=1)
    right.set_xlabel("false-positive rate")
    right.set_ylabel("detection rate")
    right.legend(fontsize=8, loc="lower right")
    save(figure, output)


def _caught(one: Caught, found: Detection) -> CaughtRecord:
    ordered = one.distance.sort().values
    # The lower of two middle ones: the mean with infinity would say nothing.
    median = float(ordered[(len(ordered) - 1) // 2])
    return CaughtRecord(
        attack=one.name,
        adaptive=one.adaptive,
        attacked=one.attacked,
        found=one.found,
        tried=one.tried,
        detected=one.detected,
        interval=interval(one.detected, one.tried) if one.tried else (0.0, 1.0),
        median_distance=median if median < float("inf") else None,
        area=one.area,
        roc=roc(found.clean, one.values) if one.area is not None else None,
        forwards=one.forwards,
        backwards=one.backwards,
    )


def _share(count: int, n: int, bounds: Interval) -> str:
    if not n:
        return "-"
    low, high = (100 * bound for bound in bounds)
    return f"{100 * count / n:.1f}% [{low:.1f}, {high:.1f}]"


def schema(form: type[DetectRecord] | type[ScreenRecord] = DetectRecord) -> str:
    """The JSON schema of a form (docs/schemas), as ``python -m robcert.reports.detection [screen]`` prints it."""
    return json.dumps(form.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema(ScreenRecord if "screen" in sys.argv[1:] else DetectRecord))
