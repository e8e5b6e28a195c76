"""Plots as SVG that is the same bytes for the same numbers, and follows the width and the colours of the page.

Text in a drawing shrinks with it, so each plot is drawn twice, for a narrow and for a wide page, and the stylesheet
shows one of them. Black is drawn for text and lines and replaced by ``currentColor``; the background is left out. Each
series has its own dashes too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from robcert.plotting import COLORS, dash, legend_above, logarithmic, percents, style

VERDICTS = {"certified": "#2e9e5b", "open": "#8c96a0", "broken": "#d9622b", "wrong": "#a259c4"}
"""The colours of the verdicts."""
_INK = "#000000"
_WIDTHS = {"narrow": 4.5, "wide": 10.4}
"""Inches, of 72 units of the drawing."""
_HEIGHT = 3.2


@dataclass(frozen=True)
class Line:
    """A series: name, x, y, and the ends of a band."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def lines(
    series: Sequence[Line],
    xlabel: str,
    ylabel: str,
    salt: str,
    *,
    share: bool = True,
    ticks: Sequence[str] = (),
    whole: bool = False,
) -> str:
    """Lines with markers and bands; ``ticks`` name x = 0, 1, 2, ..., ``whole`` marks whole numbers only."""

    def draw(axes: Any, width: float) -> None:
        for k, one in enumerate(series):
            look = {"color": COLORS[k % len(COLORS)], "linestyle": dash(k), "label": _name(one.name)}
            axes.plot(one.x, one.y, marker="o", markersize=3.5, **look)
            if one.low is not None and one.high is not None:
                axes.fill_between(one.x, one.low, one.high, color=look["color"], alpha=0.15, linewidth=0)
        axes.margins(x=0.03)
        if ticks:
            axes.set_xticks(range(len(ticks)), [_name(tick, 24).strip() for tick in ticks])
            if sum(len(tick) + 3 for tick in ticks) > 11 * width:
                axes.tick_params(axis="x", rotation=30)
        if whole:
            axes.xaxis.get_major_locator().set_params(integer=True)
        if share:
            axes.set_ylim(-0.04, 1.04)
            percents(axes.yaxis)

    return _drawn(draw, xlabel, ylabel, salt)


def verdicts(rows: Sequence[tuple[str, Sequence[float]]], salt: str) -> str:
    """A bar a row, with its name above it: the shares of images of each of `VERDICTS`."""

    def draw(axes: Any, _: float) -> None:
        for k, (name, parts) in enumerate(rows):
            start = 0.0
            for (verdict, color), part in zip(VERDICTS.items(), parts, strict=True):
                axes.barh(k, part, left=start, height=0.42, color=color, label=verdict if k == 0 else None)
                start += part
            axes.text(0.0, k - 0.3, _name(name, 60).strip(), ha="left", va="bottom")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(rows) - 0.55, -0.85)
        axes.set_xlim(-0.01, 1.01)
        percents(axes.xaxis)

    return _drawn(draw, "share of images", "", salt, height=1.0 + 0.62 * len(rows))


def histogram(
    series: Sequence[tuple[str, Sequence[float]]], edges: Sequence[float], xlabel: str, salt: str, *, log: bool = False
) -> str:
    """Shares of values in bins, a staircase a series; ``log`` draws the axis of the values logarithmically."""

    def draw(axes: Any, _: float) -> None:
        for k, (name, shares) in enumerate(series):
            look = {"color": COLORS[k % len(COLORS)], "linestyle": dash(k), "label": _name(name)}
            axes.stairs(shares, edges, linewidth=1.8, **look)
            axes.stairs(shares, edges, fill=True, color=look["color"], alpha=0.15)
        axes.margins(x=0.03)
        percents(axes.yaxis)
        if log:
            logarithmic(axes, edges[0], edges[-1])

    return _drawn(draw, xlabel, "share of images", salt)


def _drawn(draw: Callable[[Any, float], None], xlabel: str, ylabel: str, salt: str, *, height: float = _HEIGHT) -> str:
    """The plot at every width; ``draw`` gets the axes and the width in inches."""
    from matplotlib.figure import Figure

    found: list[str] = []
    for name, width in _WIDTHS.items():
        with style(svg__hashsalt=salt):
            figure = Figure(figsize=(width, height), layout="constrained")
            axes = figure.subplots()
            draw(axes, width)
            axes.set_xlabel(xlabel)
            axes.set_ylabel(ylabel)
            axes.set_facecolor("none")
            legend_above(figure, axes)
            text = io.StringIO()
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        found.append(_inline(text.getvalue(), f"{salt}-{name}", name))
    return "".join(found)


def _inline(svg: str, salt: str, name: str) -> str:
    """Without prologue and metadata, in the colours of the page, with identifiers of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    mark = re.sub(r"\W+", "-", salt)
    svg = re.sub(r'\bid="', f'id="{mark}-', svg)
    svg = svg.replace('href="#', f'href="#{mark}-').replace("url(#", f"url(#{mark}-")
    svg = svg.replace(_INK, "currentColor")
    svg = re.sub(r"(<text\b(?![^>]*fill:)[^>]*style=\")", r"\1fill: currentColor; ", svg)
    svg = re.sub(r"font:\s*(?:normal\s+)?([\d.]+)px[^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    svg = re.sub(r"font-size: ([\d.]+)px; font-family: [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} class="{name}" aria-hidden="true" focusable="false">{rest}'.strip()


def _name(text: str, most: int = 40) -> str:
    """A name in a plot: a dollar would start mathematics, and a leading underscore hides a label."""
    from robcert.reports.text import plain

    return " " + plain(text, most).replace("$", r"\$")
