"""Both ends of the bracket at every budget: certified <= true <= attacked accuracy."""

from __future__ import annotations

from robcert.reports.page import charts
from robcert.reports.page.numbers import at, count
from robcert.reports.page.parts import Cell, Figure, Section, Table, cells
from robcert.reports.page.sources import Sources
from robcert.runs.summary import as_list


def bracket(sources: Sources) -> Section | None:
    """Return a bar for each model and budget."""
    rows: list[list[Cell]] = []
    bars: list[tuple[str, list[float]]] = []
    for run in sources.runs:
        threat, several = run.record.threat, len(run.record.threat.eps) > 1
        for m, model in enumerate(run.record.models):
            for k, eps in enumerate(threat.eps):
                key = f"{run.name}: models/{m}/verdicts"
                low, left = as_list(model.verdicts.certified)[k], as_list(model.verdicts.open)[k]
                wrong, broken = as_list(model.verdicts.wrong)[k], as_list(model.verdicts.broken)[k]
                n = model.n
                between = f"{100 * low / n:.1f}% to {100 * (low + left) / n:.1f}%" if n else "-"
                rows.append(
                    cells(
                        model.name,
                        f"{threat.norm} {eps:g}",
                        count(model.natural_correct, n, f"{run.name}: models/{m}/natural_correct"),
                        count(wrong, n, at(f"{key}/wrong", k, several)),
                        count(broken, n, at(f"{key}/broken", k, several)),
                        count(left, n, at(f"{key}/open", k, several)),
                        count(low, n, at(f"{key}/certified", k, several)),
                        Cell(between),
                    )
                )
                parts = [part / max(n, 1) for part in (low, left, broken, wrong)]
                bars.append((f"{model.name}, {threat.norm} {eps:g}: {between}", parts))
    if not rows:
        return None
    head = ("model", "threat", "natural", "wrong", "broken", "open", "certified", "true accuracy is in")
    table = Table("Images by verdict", head, rows)
    return Section(
        "Bracket",
        "The true robust accuracy lies between what is certified and what no attack has broken. Open images are "
        "neither.",
        figures=[
            Figure(
                charts.verdicts(bars, "bracket"),
                "Images by verdict. The true robust accuracy is at least what is certified, and at most that with the "
                "open images.",
                table,
            )
        ],
    )
