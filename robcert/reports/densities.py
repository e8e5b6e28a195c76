"""The distribution of layer norms, a line a model (paper D, figure 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robcert.errors import UsageError
from robcert.reports.norms import NormsRecord


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

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, (norm, title) in zip(axes, (("l1", "l1"), ("linf", "l-inf"), ("l2_upper", "l2")), strict=True):
        for model in record.models:
            values = [value for layer in model.layers if layer.linear and (value := getattr(layer, norm)) is not None]
            spread = np.ptp(values) if values else 0.0
            if len(values) > 1 and spread > 0:
                points = np.linspace(max(0.0, min(values) - spread / 2), max(values) + spread / 2, 200)
                axis.plot(points, gaussian_kde(values)(points), label=model.name)
            elif values:
                axis.axvline(values[0], label=model.name)
        axis.set_title(f"{title} norms of linear layers", fontsize=9)
        axis.set_xlabel("norm")
        axis.set_ylabel("density")
    axes[0].legend(fontsize=8)
    try:
        figure.savefig(output)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {output} ({error})", "Name a .svg, .png or .pdf file with --plot") from None
