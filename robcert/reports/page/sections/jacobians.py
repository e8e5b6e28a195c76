"""Sensitivity of the images: histograms of the norms of gradients and Jacobians."""

from __future__ import annotations

import numpy as np

from robcert.plotting import logarithmic_bins, shares
from robcert.reports.page import charts
from robcert.reports.page.numbers import number
from robcert.reports.page.parts import Cell, Figure, Section, Table, cells
from robcert.reports.page.sources import Sources
from robcert.sensitivity.gradients import STATISTICS, WORDS


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
            edges = logarithmic_bins(known)
            parts = [(model, shares(found, edges)) for model, found in values]
            symbol = STATISTICS.get(statistic, statistic)
            title = f"{WORDS[statistic]}, {symbol}" if statistic in WORDS else symbol
            ends = [
                number(getattr(model.statistics[statistic], end), f"{name}: models/{m}/statistics/{statistic}/{end}")
                for m, model in enumerate(record.models)
                for end in ("mean", "max")
            ]
            rows.append(cells(title, *ends))
            bins = [
                cells(f"{edges[b]:.3g} to {edges[b + 1]:.3g}", *(f"{100 * share[b]:.1f}%" for _, share in parts))
                for b in range(len(edges) - 1)
            ]
            svg = charts.histogram(parts, edges.tolist(), title, f"jacobian-{name}-{statistic}", log=True)
            table = Table(f"{title}: share of images", ("value", *(model for model, _ in parts)), bins)
            figures.append(Figure(svg, f"Distribution of the {title} over images.", table))
        head = ("statistic", *(f"{model.name}, {end}" for model in record.models for end in ("mean", "largest")))
        data = f"{record.data.name} {record.data.split}, n {record.data.n}"
        tables.append(Table(f"Mean and largest over the images, {data}", head, rows))
    if not figures:
        return None
    intro = "Norms of derivatives at the images: large where a small change does much."
    return Section("Jacobians", intro, figures=figures, tables=tables)
