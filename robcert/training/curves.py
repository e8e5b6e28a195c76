"""Learning curves: one row an epoch as CSV, and drawn as SVG."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from robcert.plotting import percents, style
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
    from matplotlib.figure import Figure

    number = [e.number for e in history]
    held_out = [e.held_out_loss for e in history]
    plots = (
        ("mean loss of the training", [e.loss for e in history]),
        ("accuracy on the test images", [e.accuracy for e in history]),
        ("average confidence gap on the test images", [e.mean_gap for e in history]),
    )
    with style(svg__hashsalt="robcert"):  # names of elements are hashes with a salt
        figure = Figure(figsize=(10.4, 3.2), layout="constrained")
        panels = figure.subplots(1, len(plots))
        for axes, (label, values) in zip(panels, plots, strict=True):
            axes.plot(number, values, linewidth=1.4, **_marked(history), label="training")
            axes.set_xlabel("epoch")
            axes.set_title(label)
            axes.margins(0.04)
            axes.xaxis.get_major_locator().set_params(integer=True)
        if all(loss is not None for loss in held_out) and held_out:
            panels[0].plot(number, held_out, linewidth=1.4, linestyle="--", label="cross-entropy of images held out")
            panels[0].legend()
        percents(panels[1].yaxis)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _marked(history: Sequence[Epoch]) -> dict[str, str]:
    """A few epochs are points: a single one would be no line."""
    return {"marker": "o", "markersize": "3.5"} if len(history) <= 30 else {}
