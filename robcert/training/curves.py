"""Learning curves: one row an epoch as CSV, and drawn as SVG."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from robcert.training.checkpoint import Epoch

COLUMNS = ("epoch", "loss", "accuracy", "mean_gap")


def curves_csv(history: Sequence[Epoch]) -> str:
    """Return the CSV file: epoch, mean loss, accuracy and average confidence gap on the test images.

    Where images are held out there is a fifth column, their mean cross-entropy.
    """
    held_out = any(e.held_out_loss is not None for e in history)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow((*COLUMNS, "held_out_loss") if held_out else COLUMNS)
    for e in history:
        numbers = (e.loss, e.accuracy, e.mean_gap, *([e.held_out_loss] if held_out else []))
        rows.writerow([e.number, *(f"{number:.6g}" for number in numbers)])
    return text.getvalue()


def curves_svg(history: Sequence[Epoch], title: str) -> str:
    """The same as three plots over the epochs; the same training gives the same text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    number = [e.number for e in history]
    plots = (
        ("mean loss (training)", [e.loss for e in history]),
        ("accuracy (test)", [e.accuracy for e in history]),
        ("average gap (test)", [e.mean_gap for e in history]),
    )
    # Names of elements are hashes with a salt; text stays text.
    with mpl.rc_context({"svg.hashsalt": "robcert", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10, 3), layout="constrained")
        for place, (label, values) in enumerate(plots, 1):
            axes = figure.add_subplot(1, len(plots), place)
            axes.plot(number, values, linewidth=1)
            axes.set_xlabel("epoch")
            axes.set_title(label, fontsize=10)
            axes.grid(alpha=0.3)
        figure.suptitle(title)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
