"""How sensitive the images are: histograms of the norms of gradients and Jacobians."""

from __future__ import annotations

import numpy as np

from robcert.report.page import charts
from robcert.report.page.numbers import number
from robcert.report.page.parts import Figure, Section, Table, cells
from robcert.report.page.sources import Sources
from robcert.sensitivity.gradients import STATISTICS

_BINS = 20


def jacobians(sources: Sources) -> Section | None:
    """A plot a statistic of `robcert jacobian --format json`."""
    figures: list[Figure] = []
    tables: list[Table] = []
    for name, record in sources.jacobians:
        images = [image for model in record.models for image in model.images]
        for statistic in record.models[0].statistics if images else ():
            if any(statistic not in image.statistics for image in images):
                continue  # what belongs to the data as a whole
            values = [(model.name, [image.statistics[statistic] for image in model.images]) for model in record.models]
            known = [value for _, found in values for value in found if np.isfinite(value)]
            if not known:
                continue
            edges = np.linspace(0.0, max(known) or 1.0, _BINS + 1)
            shares = [(model, (np.histogram(found, edges)[0] / max(len(found), 1)).tolist()) for model, found in values]
            rows = [
                cells(
                    model.name,
                    number(model.statistics[statistic].mean, f"{name}: models/{m}/statistics/{statistic}/mean"),
                    number(model.statistics[statistic].max, f"{name}: models/{m}/statistics/{statistic}/max"),
                )
                for m, model in enumerate(record.models)
            ]
            bins = [
                cells(f"{edges[b]:.3g} to {edges[b + 1]:.3g}", *(f"{100 * share[b]:.1f}%" for _, share in shares))
                for b in range(_BINS)
            ]
            title = STATISTICS.get(statistic, statistic)
            svg = charts.histogram(shares, edges.tolist(), title, f"jacobian-{name}-{statistic}")
            table = Table(f"{title}: share of images", ("value", *(model for model, _ in shares)), bins)
            figures.append(Figure(svg, f"Distribution of the {title} over images.", table))
            tables.append(Table(f"{title}: mean and maximum", ("model", "mean", "largest"), rows))
    if not figures:
        return None
    intro = "Norms of derivatives at the images: large where a small change does much."
    return Section("Jacobians", intro, figures=figures, tables=tables)
