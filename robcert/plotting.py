"""The look of every picture, and the bins of every histogram: of pages, of files that are drawn, of learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2f7ed8", "#d9622b", "#2e9e5b", "#a259c4", "#b58900", "#c2417c", "#1397a6", "#7f7f7f")
"""Colours of series: a contrast of at least 3 with white and with black."""
DASHES = ("-", "--", "-.", ":")
_BINS = (16, 32)
"""The fewest and the most bins of a histogram with a logarithmic axis; fewer only where values are close together."""
_PER_DECADE = (1, 2, 4, 5, 10, 20, 40, 100)


def style(**more: Any) -> AbstractContextManager[None]:
    """Return a context in which figures have the look of robcert's pictures.

    Args:
        **more: further rcParams, with ``__`` in the place of a dot.
    """
    import matplotlib as mpl
    from matplotlib.rcsetup import cycler

    settings = {
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "grid.alpha": 0.3,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.8,
        "svg.fonttype": "none",  # text stays text: it can be read, searched and coloured
    }
    return mpl.rc_context(settings | {name.replace("__", "."): value for name, value in more.items()})  # pyright: ignore[reportArgumentType]


def dash(number: int) -> str:
    """Return the dashes of the n-th series: with the colours, 32 series that differ."""
    return DASHES[(number + number // len(COLORS)) % len(DASHES)]


def percents(axis: Any) -> None:
    """Write the values of one axis (``axes.xaxis`` or ``axes.yaxis``) as percentages."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put the legend above the plots, in as many columns as fit, where it hides nothing."""
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    widest = 40 + 5.2 * max(len(name) for name in names)  # points: the sample of a line, and letters of 9 points
    columns = max(1, min(len(names), int(72 * figure.get_figwidth() // widest)))
    figure.legend(handles, names, loc="outside upper left", ncols=columns)


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, with labels that do not collide.

    The labels are 1, 2, 5, 10, ... up to three decades, and powers of ten beyond.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    decades = np.log10(high / low)
    if decades < 3:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.xaxis.set_major_locator(LogLocator(numticks=9))


def even_bins(end: float, most: int = 20) -> NDArray[np.float64]:
    """Return edges from 0 to at least ``end`` at a distance of 1, 2 or 5 times a power of ten."""
    from matplotlib.ticker import MaxNLocator

    edges = np.asarray(MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(0.0, end), dtype=np.float64)
    return edges[edges >= 0]


def logarithmic_bins(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges of bins of equal width in the logarithm, each power of ten being one of them where there are two.

    Norms of confident and of doubtful images lie orders of magnitude apart. What is not positive belongs into the
    first bin.
    """
    found = np.asarray(values, dtype=np.float64)
    positive = found[np.isfinite(found) & (found > 0)]
    most = float(positive.max()) if positive.size else 1.0
    least = max(float(positive.min()), most * 1e-12) if positive.size else most
    low, high = np.log10(least), np.log10(most)
    fitting = [each for each in _PER_DECADE if each * (high - low) <= _BINS[1]] or [_PER_DECADE[0]]
    each = next((one for one in fitting if one * (high - low) >= _BINS[0]), fitting[-1])
    first, last = np.floor(low * each + 1e-9), np.ceil(high * each - 1e-9)
    return 10.0 ** (np.arange(first, max(last, first + 1) + 1) / each)


def shares(values: Sequence[float], edges: NDArray[np.float64]) -> list[float]:
    """Return the share of the values in each bin; the first and the last one hold what is beyond them."""
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return [float(count) / max(len(values), 1) for count in counts]
