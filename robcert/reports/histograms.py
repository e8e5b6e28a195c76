"""Histograms of gradient norms, as in figure 4 of paper E."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robcert.reports.figures import logarithmic, save
from robcert.runs.records.jacobian import JacobianRecord
from robcert.sensitivity.gradients import STATISTICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 40


_SHOWN = ("spectral", "row", "probability", "loss-l2")


def draw_jacobians(record: JacobianRecord, output: Path) -> None:
    """Draw a panel for each of four statistics, an outline for each network.

    Raises:
        UsageError: the file cannot be written.
    """
    panels = [
        (STATISTICS[name], {model.name: [image.statistics[name] for image in model.images] for model in record.models})
        for name in _SHOWN
    ]
    draw_histograms(panels, output)


def draw_histograms(
    panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]], output: Path, threshold: float | None = None
) -> None:
    """A panel a statistic, an outline a group of images.

    The axis is logarithmic: norms of confident and of doubtful images lie orders of magnitude apart. A norm of
    exactly zero is drawn in the lowest bin.

    Args:
        panels: the label of the axis, and values by group.
        output: the picture; its suffix decides the format.
        threshold: drawn as a line where there is one.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.axis("off")
    for axis, (title, groups) in zip(axes, panels, strict=False):
        outlines(axis, title, groups, threshold)
    axes[0].legend(fontsize=8)
    save(figure, output)


def outlines(axis: Axes, title: str, groups: Mapping[str, Sequence[float]], threshold: float | None = None) -> None:
    """Histograms of some groups of values in one panel, as outlines, with a line at the threshold."""
    every = np.concatenate([np.asarray(values, dtype=float) for values in groups.values()])
    positive = every[every > 0]
    most = float(positive.max()) if positive.size else 1.0
    least = max(float(positive.min()), most * 1e-12) if positive.size else 1e-12
    edges = np.geomspace(least, max(most, least * 1.01), BINS + 1)
    for name, values in groups.items():
        inside = np.clip(np.asarray(values, dtype=float), edges[0], edges[-1])
        weights = np.full(len(inside), 1 / max(1, len(inside)))
        axis.hist(inside, bins=list(edges), weights=weights, histtype="step", linewidth=1.5, label=name)
    if threshold is not None:
        axis.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3g}")
    logarithmic(axis, float(edges[0]), float(edges[-1]))
    axis.set_xlabel(title)
    axis.set_ylabel("share of images")
