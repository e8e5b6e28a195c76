"""Sensitivity of the images: histograms of the norms of gradients and Jacobians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robcert.reports.page import charts
from robcert.reports.page.numbers import number
from robcert.reports.page.parts import Cell, Figure, Section, Table, cells
from robcert.reports.page.sources import Sources
from robcert.sensitivity.gradients import STATISTICS

_BINS = 20


def jacobians(sources: Sources) -> Section | None:
    """A plot a statistic of `robcert jacobian --format json`."""
    figures: list[Figure] = []
    tables: list[Table] = []
    for name, record in sources.jacobians:
        rows: list[list[Cell]] = []
        images = [image for model in record.models for image in model.images]
        for statistic in record.models[0].statistics if images else ():
            if any(statistic not in image.statistics for image in images):
                continue  # what belongs to the data as a whole
            values = [(model.name, [image.statistics[statistic] for image in model.images]) for model in record.models]
            known = [value for _, found in values for value in found if np.isfinite(value)]
            if not known:
                continue
            edges = _edges(known)
            shares = [(model, _shares(found, edges)) for model, found in values]
            title = STATISTICS.get(statistic, statistic)
            ends = [
                number(getattr(model.statistics[statistic], end), f"{name}: models/{m}/statistics/{statistic}/{end}")
                for m, model in enumerate(record.models)
                for end in ("mean", "max")
            ]
            rows.append(cells(title, *ends))
            bins = [
                cells(f"{edges[b]:.3g} to {edges[b + 1]:.3g}", *(f"{100 * share[b]:.1f}%" for _, share in shares))
                for b in range(_BINS)
            ]
            svg = charts.histogram(shares, edges.tolist(), title, f"jacobian-{name}-{statistic}", log=True)
            table = Table(f"{title}: share of images", ("value", *(model for model, _ in shares)), bins)
            figures.append(Figure(svg, f"Distribution of the {title} over images.", table))
        head = ("statistic", *(f"{model.name}, {end}" for model in record.models for end in ("mean", "largest")))
        data = f"{record.data.name} {record.data.split}, n {record.data.n}"
        tables.append(Table(f"Mean and largest over the images, {data}", head, rows))
    if not figures:
        return None
    intro = "Norms of derivatives at the images: large where a small change does much."
    return Section("Jacobians", intro, figures=figures, tables=tables)


def _edges(known: list[float]) -> NDArray[np.float64]:
    """Bins of equal width in the logarithm: norms of sure and of doubtful images lie orders of magnitude apart."""
    positive = [value for value in known if value > 0]
    most = max(positive, default=1.0)
    least = max(min(positive, default=most), most * 1e-12)
    return np.geomspace(min(least, 0.99 * most), most, _BINS + 1)


def _shares(values: list[float], edges: NDArray[np.float64]) -> list[float]:
    """The share of the values in each bin; the first one holds those that are smaller, such as 0."""
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return [float(count) / max(len(values), 1) for count in counts]
