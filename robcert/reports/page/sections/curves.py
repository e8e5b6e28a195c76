"""Curves over the budget: error found by attacks, accuracy certified, and the radii behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from robcert.plotting import even_bins, shares
from robcert.reports.page import charts
from robcert.reports.page.parts import Cell, Figure, Section, Table, cells
from robcert.reports.page.sources import Run, Sources
from robcert.runs.record import ImageRecord, ModelRecord

_POINTS = 21


def attacked_error(sources: Sources) -> Section | None:
    """The share that the attacks had broken at every distance: a lower bound of the robust error."""
    figures = [figure for run in sources.runs if (figure := _errors(run)) is not None]
    if not figures:
        return None
    return Section(
        "Error curves",
        "The share of images that are wrong, or have a verified adversarial example within the distance: a lower bound "
        "of the robust error. A run with one budget and the goal to decide stops at its first example within it, so "
        "its curve is a lower bound for smaller budgets too, but a loose one. Images that are certified beyond the "
        "largest budget are not attacked, so that beyond it nothing is known of them: there the line ends.",
        figures=figures,
    )


def certified(sources: Sources) -> Section | None:
    """The share that is certified at every radius."""
    figures: list[Figure] = []
    for run in sources.runs:
        models = [model for model in run.record.models if model.certificate is not None]
        if models:
            limit = _reach([one.radius for model in models for one in model.images])
            figures.append(_curve(run, models, [limit] * len(models), _certified_at, "certified accuracy", "radius"))
    for name, record in sources.certificates:
        series: list[charts.Line] = []
        rows: list[list[Cell]] = []
        for m, model in enumerate(record.models):
            eps = record.threat.eps
            series.append(charts.Line(model.name, eps, [count / max(model.n, 1) for count in model.certified_correct]))
            for k, value in enumerate(eps):
                where = f"{name}: models/{m}/certified_correct/{k}"
                count = model.certified_correct[k]
                rows.append(
                    cells(
                        model.name, f"{value:g}", Cell(f"{count} ({100 * count / max(model.n, 1):.1f}%)", where, count)
                    )
                )
        title = f"{record.threat.norm}, {record.method}, {record.data_line}"
        svg = charts.lines(series, f"eps ({record.threat.norm})", "certified accuracy", f"certify-{name}")
        table = Table(f"Certified accuracy, {title}", ("model", "eps", "certified"), rows)
        figures.append(Figure(svg, f"Certified accuracy: {title}.", table))
    if not figures:
        return None
    return Section("Certified curves", "The share of images whose certified radius exceeds eps.", figures=figures)


def radii(sources: Sources) -> Section | None:
    """The distribution of certified radii of rightly classified images."""
    figures: list[Figure] = []
    for run in sources.runs:
        models = [model for model in run.record.models if model.certificate is not None]
        found = [(model.name, [one.radius or 0.0 for one in model.images if one.status != "wrong"]) for model in models]
        figures += _distribution(run.name, run.record.threat.norm, found)
    for name, record in sources.certificates:
        found = [
            (model.name, [one.radius for one in model.images if one.prediction == one.label]) for model in record.models
        ]
        figures += _distribution(name, record.threat.norm, found)
    if not figures:
        return None
    return Section(
        "Distribution of radii",
        "Certified radii of the images that are right without an attack, as a share of these images. An attack asks "
        "for its eps only, so radii of methods that test one radius at a time end there.",
        figures=figures,
    )


def _distribution(name: str, norm: str, found: list[tuple[str, list[float]]]) -> list[Figure]:
    values = [value for _, values in found for value in values]
    if not values or max(values) <= 0:
        return []
    edges = even_bins(_reach(values))
    series: list[tuple[str, list[float]]] = []
    counts: list[list[int]] = []
    for model, radii_of in found:
        inside = shares(radii_of, edges)
        counts.append([round(share * len(radii_of)) for share in inside])
        series.append((model, inside))
    rows = [
        cells(f"{edges[b]:.4g} to {edges[b + 1]:.4g}", *(str(counts[m][b]) for m in range(len(found))))
        for b in range(len(edges) - 1)
    ]
    caption = f"Certified {norm} radii; the last bin holds all larger ones."
    table = Table(f"Images by certified {norm} radius", ("radius", *(model for model, _ in found)), rows)
    return [
        Figure(charts.histogram(series, edges.tolist(), f"certified {norm} radius", f"radii-{name}"), caption, table)
    ]


def _errors(run: Run) -> Figure | None:
    record = run.record
    far = [one.distance for model in record.models for one in model.images if one.distance]
    limit = max(_reach(far), record.threat.eps[-1]) if record.goal == "minimize" else record.threat.eps[-1]
    ends = [_known_to(model, record.threat.eps[-1], limit) for model in record.models]
    return _curve(run, record.models, ends, _broken_at, "error found by attacks", "distance")


def _known_to(model: ModelRecord, largest: float, limit: float) -> float:
    """Up to which distance a curve of errors is known: images certified beyond the largest budget are not attacked."""
    skipped = any(one.distance is None and (one.radius or 0.0) > largest for one in model.images)
    return min(limit, largest) if skipped else limit


def _curve(
    run: Run,
    models: Sequence[ModelRecord],
    ends: Sequence[float],
    share: Callable[[Sequence[ImageRecord], float], int],
    what: str,
    of: str,
) -> Figure:
    """A line a model, up to where each ends, and the same as a table."""
    norm = run.record.threat.norm
    points = np.linspace(0.0, max(ends), _POINTS).tolist()
    series: list[charts.Line] = []
    for model, end in zip(models, ends, strict=True):
        at = [value for value in points if value < end] + [end]
        series.append(charts.Line(model.name, at, [share(model.images, value) / max(model.n, 1) for value in at]))
    rows = [
        cells(
            f"{value:.4g}",
            *(
                _share(share(model.images, value), model.n) if value <= end else "not known"
                for model, end in zip(models, ends, strict=True)
            ),
        )
        for value in points
    ]
    table = Table(f"{what.capitalize()} by {norm} {of}", (f"{norm} {of}", *(model.name for model in models)), rows)
    svg = charts.lines(series, f"{norm} {of}", what, f"{what}-{run.name}")
    return Figure(svg, f"{what.capitalize()} over the {norm} {of}.", table)


def _broken_at(images: Sequence[ImageRecord], eps: float) -> int:
    return sum(1 for one in images if one.distance is not None and one.distance <= eps)


def _certified_at(images: Sequence[ImageRecord], eps: float) -> int:
    return sum(1 for one in images if (one.radius or 0.0) > eps)


def _reach(values: Sequence[float | None]) -> float:
    """Return the end of an axis: the 99th percentile, so that one far image does not press all others together."""
    known = [value for value in values if value is not None and np.isfinite(value) and value > 0]
    return float(f"{np.quantile(known, 0.99):.2g}") if known else 1.0


def _share(count: int, n: int) -> str:
    return f"{count} ({100 * count / n:.1f}%)" if n else str(count)
