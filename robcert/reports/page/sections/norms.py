"""Norms of every layer, in the order in which the network executes them."""

from __future__ import annotations

from robcert.reports.page import charts
from robcert.reports.page.numbers import number
from robcert.reports.page.parts import Cell, Figure, Section, Table, cells
from robcert.reports.page.sources import Sources


def norms(sources: Sources) -> Section | None:
    """A plot and a table a model of `robcert norms --format json`."""
    figures: list[Figure] = []
    for name, record in sources.norms:
        for m, model in enumerate(record.models):
            linear = [layer for layer in model.layers if layer.linear]
            places = [float(k + 1) for k in range(len(linear))]
            series = [
                charts.Line(label, places, [value if value is not None else float("nan") for value in values])
                for label, values in (
                    ("l2", [layer.l2_upper for layer in linear]),
                    ("l-inf", [layer.linf for layer in linear]),
                    ("l1", [layer.l1 for layer in linear]),
                )
            ]
            rows: list[list[Cell]] = []
            for k, layer in enumerate(model.layers):
                key = f"{name}: models/{m}/layers/{k}"
                rows.append(
                    cells(
                        layer.name or layer.op,
                        layer.op,
                        number(layer.l2_lower, f"{key}/l2_lower", "-"),
                        number(layer.l2_upper, f"{key}/l2_upper"),
                        number(layer.linf, f"{key}/linf"),
                        number(layer.l1, f"{key}/l1"),
                    )
                )
            key = f"{name}: models/{m}/lipschitz"
            rows.append(
                cells(
                    "whole network",
                    "",
                    "",
                    number(model.lipschitz.l2, f"{key}/l2"),
                    number(model.lipschitz.linf, f"{key}/linf"),
                    number(model.lipschitz.l1, f"{key}/l1"),
                )
            )
            head = ("layer", "operation", "l2 from below", "l2 bound", "l-inf", "l1")
            svg = charts.lines(series, "linear layer, in order", "norm", f"norms-{name}-{m}", share=False, whole=True)
            table = Table(f"Layer norms of {model.name}", head, rows)
            figures.append(Figure(svg, f"Norms of the linear layers of {model.name}.", table))
    if not figures:
        return None
    return Section(
        "Layer norms",
        "l1 and l-inf norms are exact; l2 norms are bracketed, and bounds use the upper end.",
        figures=figures,
    )
