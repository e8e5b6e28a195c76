"""Accuracy of images sorted by their confidence gap."""

from __future__ import annotations

from robcert.reports.page import charts
from robcert.reports.page.numbers import count, number
from robcert.reports.page.parts import Cell, Figure, Section, Table, cells
from robcert.reports.page.sources import Sources


def bins(sources: Sources) -> Section | None:
    """A plot a model for which `robcert certify --bins` was run."""
    figures: list[Figure] = []
    for name, record in sources.certificates:
        for m, model in enumerate(record.models):
            if not model.bins:
                continue
            rows: list[list[Cell]] = []
            for b, part in enumerate(model.bins):
                key = f"{name}: models/{m}/bins/{b}"
                attacked = "-" if part.attacked is None else count(part.attacked, part.n, f"{key}/attacked")
                rows.append(
                    cells(
                        str(b + 1),
                        number(part.largest_gap, f"{key}/largest_gap"),
                        number(part.smallest_gap, f"{key}/smallest_gap"),
                        count(part.natural, part.n, f"{key}/natural"),
                        count(part.certified, part.n, f"{key}/certified"),
                        attacked,
                    )
                )
            places = [float(b + 1) for b in range(len(model.bins))]
            series = [
                charts.Line("natural", places, [part.natural / max(part.n, 1) for part in model.bins]),
                charts.Line("certified", places, [part.certified / max(part.n, 1) for part in model.bins]),
            ]
            if all(part.attacked is not None for part in model.bins):
                shares = [(part.attacked or 0) / max(part.n, 1) for part in model.bins]
                series.append(charts.Line("attacked", places, shares))
            title = f"{model.name}, {record.threat.norm} eps {record.threat.eps[0]:g}"
            head = ("bin", "largest gap", "smallest gap", "natural", "certified", "attacked")
            svg = charts.lines(series, "bin, the most confident first", "accuracy", f"bins-{name}-{m}", whole=True)
            figures.append(
                Figure(svg, f"Accuracy by confidence gap: {title}.", Table(f"Gap bins, {title}", head, rows))
            )
    if not figures:
        return None
    return Section(
        "Gap bins", "Images sorted by the gap between their two largest logits, in bins of equal size.", figures=figures
    )
