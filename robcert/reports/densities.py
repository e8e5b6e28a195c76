"""The distribution of layer norms, a line a model (paper D, figure 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robcert.plotting import COLORS, dash, legend_above, style
from robcert.reports.figures import save
from robcert.runs.records.norms import NormsRecord


def draw_densities(record: NormsRecord, output: Path) -> None:
    """Gaussian kernel densities of the norms of linear layers, one plot each for l1, l-inf and l2.

    Args:
        record: of one or several models.
        output: the picture; its suffix decides the format.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from scipy.stats import gaussian_kde

    with style():
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        panels = figure.subplots(1, 3)
        for axes, (norm, title) in zip(panels, (("l1", "l1"), ("linf", "l-inf"), ("l2_upper", "l2")), strict=True):
            for k, model in enumerate(record.models):
                look = {"color": COLORS[k % len(COLORS)], "linestyle": dash(k), "label": model.name}
                found = [getattr(layer, norm) for layer in model.layers if layer.linear]
                values = [value for value in found if value is not None]
                spread = np.ptp(values) if values else 0.0
                if len(values) > 1 and spread > 0:
                    points = np.linspace(max(0.0, min(values) - spread / 2), max(values) + spread / 2, 200)
                    axes.plot(points, gaussian_kde(values)(points), **look)
                elif values:
                    axes.axvline(values[0], **look)
            axes.set_title(f"{title} norms of linear layers")
            axes.set_xlabel(f"{title} norm")
            axes.set_ylabel("density")
            axes.margins(0.03)
            axes.set_ylim(bottom=0)
        legend_above(figure, panels[0])
        save(figure, output)
