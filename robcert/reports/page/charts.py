"""Plots as SVG that is the same bytes for the same numbers, and follows the colours of the page.

Black is drawn for text and lines and replaced by ``currentColor``; the background is left out. The colours of the
series are distinguishable on white and on black (contrast of at least 3 with both), and each has its own dashes too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robcert.reports.figures import logarithmic

COLORS = ("#2f7ed8", "#d9622b", "#2e9e5b", "#a259c4", "#b58900", "#c2417c", "#1397a6", "#7f7f7f")
DASHES = ("-", "--", "-.", ":")
_INK = "#000000"


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
    figure, axis = _canvas()
    for k, one in enumerate(series):
        color, dash = COLORS[k % len(COLORS)], DASHES[(k + k // len(COLORS)) % len(DASHES)]
        draw = {"color": color, "linestyle": dash, "linewidth": 1.8, "label": _name(one.name)}
        axis.plot(one.x, one.y, marker="o", markersize=3.5, **draw)
        if one.low is not None and one.high is not None:
            axis.fill_between(one.x, one.low, one.high, color=color, alpha=0.15, linewidth=0)
    if ticks:
        axis.set_xticks(range(len(ticks)), [_name(tick, 24).strip() for tick in ticks])
        if sum(len(tick) for tick in ticks) > 50:
            axis.tick_params(axis="x", rotation=30)
    if whole:
        axis.xaxis.get_major_locator().set_params(integer=True)
    if share:
        axis.set_ylim(-0.03, 1.03)
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    return _finish(figure, axis, xlabel, ylabel, salt)


def brackets(rows: Sequence[tuple[str, float, float]], xlabel: str, salt: str) -> str:
    """A bar a row from the lower to the upper end."""
    figure, axis = _canvas(height=0.9 + 0.34 * len(rows))
    for k, (_, low, high) in enumerate(rows):
        axis.plot([low, high], [k, k], color=COLORS[0], linewidth=7, solid_capstyle="butt", alpha=0.55)
        axis.plot([low], [k], marker="|", markersize=13, markeredgewidth=2.4, color=COLORS[2])
        axis.plot([high], [k], marker="|", markersize=13, markeredgewidth=2.4, color=COLORS[1])
    axis.set_yticks(range(len(rows)), [_name(name, 28) for name, _, _ in rows])
    axis.invert_yaxis()
    axis.set_xlim(-0.02, 1.02)
    axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    return _finish(figure, axis, xlabel, "", salt)


def histogram(
    series: Sequence[tuple[str, Sequence[float]]], edges: Sequence[float], xlabel: str, salt: str, *, log: bool = False
) -> str:
    """Shares of values in bins, a staircase a series; ``log`` draws the axis of the values logarithmically."""
    figure, axis = _canvas()
    for k, (name, shares) in enumerate(series):
        axis.stairs(
            shares, edges, color=COLORS[k % len(COLORS)], linestyle=DASHES[k % 4], linewidth=1.8, label=_name(name)
        )
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    if log:
        logarithmic(axis, edges[0], edges[-1])
    return _finish(figure, axis, xlabel, "share of images", salt)


def _canvas(width: float = 5.4, height: float = 3.1) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: it can be read, searched and coloured
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _finish(figure: Any, axis: Any, xlabel: str, ylabel: str, salt: str) -> str:
    import matplotlib

    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(alpha=0.18, color=_INK, linewidth=0.7)
    axis.set_facecolor("none")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=9)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), salt)


def _inline(svg: str, salt: str) -> str:
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
    return f'{head} aria-hidden="true" focusable="false">{rest}'.strip()


def _name(text: str, most: int = 40) -> str:
    """A name in a plot: a dollar would start mathematics, and a leading underscore hides a label."""
    from robcert.reports.text import plain

    return " " + plain(text, most).replace("$", r"\$")
