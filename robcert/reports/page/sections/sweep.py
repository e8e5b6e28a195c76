"""Accuracy after each leg, and whether more iterations still help."""

from __future__ import annotations

from robcert.math.binomial import interval
from robcert.reports.console import after_examples, iterations_text, leg_name
from robcert.reports.page import charts
from robcert.reports.page.numbers import at, count
from robcert.reports.page.parts import Cell, Figure, Section, Table, cells
from robcert.reports.page.sources import Run, Sources
from robcert.runs.plan import LegPlan
from robcert.runs.record import Interval, LegRecord
from robcert.runs.summary import as_list


def sweep(sources: Sources) -> Section | None:
    """A plot a run and budget, a row a leg and model."""
    figures = [figure for run in sources.runs for k in range(len(run.record.threat.eps)) for figure in _plot(run, k)]
    if not figures:
        return None
    notes = [
        f"{model.name} ({run.record.threat.norm}): {iterations_text(model, run.record).plain}"
        for run in sources.runs
        for model in run.record.models
    ]
    return Section(
        "Sweep",
        "Each leg attacks the images that the legs before it left open. The band is the two-sided exact 95 % interval "
        "of the accuracy. A sweep that still falls says that attacked accuracy is an upper bound which more "
        "iterations may well lower.",
        figures=figures,
        notes=notes,
    )


def _plot(run: Run, k: int) -> list[Figure]:
    record = run.record
    eps, several = record.threat.eps[k], len(record.threat.eps) > 1
    series: list[charts.Line] = []
    rows: list[list[Cell]] = []
    for m, model in enumerate(record.models):
        legs, n, key = model.legs, max(model.n, 1), f"{run.name}: models/{m}"
        shares = [model.natural_correct / n, *(as_list(leg.attacked_correct)[k] / n for leg in legs)]
        bounds = [model.natural_interval, *(_interval(leg.interval, k) for leg in legs)]
        low, high = [one[0] for one in bounds], [one[1] for one in bounds]
        series.append(charts.Line(model.name, list(range(len(shares))), shares, low, high))
        rows.append(
            cells(
                model.name,
                "no attack",
                "",
                count(model.natural_correct, n, f"{key}/natural_correct"),
                *_ends(bounds[0]),
            )
        )
        if model.certificate is not None and model.certificate.broken is not None:
            left, what = after_examples(model, k), f"examples of {model.certificate.method}"
            where = at(f"{key}/certificate/broken", k, several)
            rows.append(cells(model.name, what, "", count(left, n, where), *_ends(interval(left, n))))
        for j, leg in enumerate(legs):
            where = f"{key}/legs/{j}"
            rows.append(
                cells(
                    model.name,
                    leg_name([leg]),
                    Cell(_attacked(leg), f"{where}/entered", leg.entered),
                    count(as_list(leg.attacked_correct)[k], n, at(f"{where}/attacked_correct", k, several)),
                    *_ends(_interval(leg.interval, k)),
                    Cell(f"{leg.forwards:,}", f"{where}/forwards", leg.forwards),
                    Cell(f"{leg.backwards:,}", f"{where}/backwards", leg.backwards),
                )
            )
    if not rows:
        return []
    head = ("model", "leg", "attacked", "standing", "95% interval", "forwards", "backwards")
    filled = [[*row, *[Cell("")] * (len(head) - len(row))] for row in rows]
    title = f"{record.threat.norm} eps {eps:g}, {record.data.name} {record.data.split}, n {record.data.n}"
    first = record.models[0].legs
    ticks = ["none", *(str(LegPlan(leg.attack, leg.iterations, leg.restarts)) for leg in first)]
    svg = charts.lines(series, "leg of the plan", "accuracy", f"sweep-{run.name}-{k}", ticks=ticks)
    return [Figure(svg, f"Accuracy after each leg: {title}.", Table(f"Sweep, {title}", head, filled))]


def _attacked(leg: LegRecord) -> str:
    """Return how many images a leg attacked; of one that was ended early, how many of them to the end."""
    return str(leg.entered) if leg.finished is None else f"{leg.finished} of {leg.entered}"


def _interval(ends: Interval | list[Interval], k: int) -> Interval:
    return ends[k] if isinstance(ends, list) else ends


def _ends(interval: Interval) -> list[str]:
    return [f"{100 * interval[0]:.1f}% to {100 * interval[1]:.1f}%"]
