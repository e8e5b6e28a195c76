"""Histograms of gradient norms, as in figure 4 of paper E."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robcert.plotting import COLORS, dash, legend_above, logarithmic, logarithmic_bins, percents, shares, style
from robcert.reports.figures import save
from robcert.runs.records.jacobian import JacobianRecord
from robcert.sensitivity.gradients import STATISTICS, WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = ("spectral", "row", "probability", "loss-l2")


def draw_jacobians(record: JacobianRecord, output: Path) -> None:
    """Draw a panel for each of four statistics, an outline for each network.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        panels = figure.subplots(2, 2).ravel()
        for axes, name in zip(panels, _SHOWN, strict=True):
            groups = {model.name: [image.statistics[name] for image in model.images] for model in record.models}
            outlines(axes, name, groups)
        legend_above(figure, panels[0])
        save(figure, output)


def outlines(axes: Axes, statistic: str, groups: Mapping[str, Sequence[float]], threshold: float | None = None) -> None:
    """Draw a histogram of each group of images in one panel, as outlines.

    The axis is logarithmic: norms of confident and of doubtful images lie orders of magnitude apart. A norm of
    exactly zero is drawn in the lowest bin.

    Args:
        axes: the panel.
        statistic: a name in `robcert.sensitivity.gradients.STATISTICS`.
        groups: its values, by what the legend calls them.
        threshold: drawn as a line where there is one.
    """
    edges = logarithmic_bins(np.concatenate([np.asarray(values, dtype=float) for values in groups.values()]))
    for k, (name, values) in enumerate(groups.items()):
        color, heights = COLORS[k % len(COLORS)], shares(values, edges)
        axes.stairs(heights, edges, color=color, linestyle=dash(k), linewidth=1.8, label=name)
        axes.stairs(heights, edges, color=color, fill=True, alpha=0.15)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3g}")
    axes.margins(x=0.03)
    logarithmic(axes, float(edges[0]), float(edges[-1]))
    percents(axes.yaxis)
    axes.set_title(WORDS[statistic])
    axes.set_xlabel(STATISTICS[statistic])
    axes.set_ylabel("share of images")
