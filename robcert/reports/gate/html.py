"""One self-contained page of HTML: verdicts, reasons, evidence, and exactly what ran."""

from __future__ import annotations

from robcert.policy.record import GateRecord, RequirementRecord
from robcert.reports import renderer
from robcert.reports.gate.words import asked, figure, grade, images, show, spent
from robcert.reports.page.parts import Cell, Line, Page, Section, Table, cells
from robcert.reports.page.render import render_page

_TONES = {"proven": "good", "empirical": "good", "inconclusive": "unsure", "failed": "bad"}
_SOME = 50
_WORDS = (
    "Proven: certified images alone reach it. Empirical: the attacks ran to the end of their plan and it still holds. "
    "Failed: broken images alone exclude it. Inconclusive: so many images cannot decide it."
)


@renderer("html", GateRecord)
def render(record: GateRecord) -> str:
    """The page."""
    said = "passed" if record.passed else "not passed"
    lead = [
        Line(f"Gate {said}: {record.verdict}", "good" if record.passed else "bad"),
        Line(f"{record.policy.path} on {images(record)}; {spent(record)}."),
    ]
    sections = [_counts(record), *_evidence(record), _provenance(record)]
    return render_page(Page("robcert gate", lead, [_verdicts(record)], [_WORDS], sections))


def _verdicts(record: GateRecord) -> Table:
    rows = [
        cells(
            one.model,
            Cell(grade(one), tone=_TONES[one.verdict]),  # on a telephone two columns are in sight
            one.name,
            asked(one),
            Cell(figure(one), f"requirements/{k}/value", one.value),
            one.reason,
        )
        for k, one in enumerate(record.requirements)
    ]
    head = ("model", "verdict", "requirement", "asked", "found", "why")
    return Table("Requirements", head, rows)


def _counts(record: GateRecord) -> Section:
    rows: list[list[Cell]] = []
    for k, one in enumerate(record.requirements):
        if one.counts is None:
            continue
        numbers = [
            Cell("-" if value is None else str(value), f"requirements/{k}/counts/{name}", value)
            for name, value in one.counts.model_dump().items()
        ]
        spent = [Cell(f"{one.forwards:,}", f"requirements/{k}/forwards", one.forwards)]
        spent += [Cell(f"{one.backwards:,}", f"requirements/{k}/backwards", one.backwards)]
        rows.append(cells(f"{one.model}, {one.name}", *numbers, *spent))
    names = "requirement, images, wrong, broken, certified, open, passes at, fails at, forwards, backwards"
    head = names.split(", ")
    return Section("Counts", "Images by what is known of them.", tables=[Table("Counts", head, rows)])


def _evidence(record: GateRecord) -> list[Section]:
    tables = [table for one in record.requirements if (table := _witnesses(one)) is not None]
    notes = [
        f"{one.model}, {one.name}: newly broken images {', '.join(str(i) for i in one.pairs.newly_broken[:_SOME])}"
        f" (McNemar p = {one.pairs.mcnemar:.2g})"
        for one in record.requirements
        if one.pairs is not None and one.pairs.newly_broken
    ]
    commands = [command for one in record.requirements if (command := show(record, one))]
    if not tables and not notes:
        return []
    intro = "Verified adversarial examples, the closest first; the run directory holds the images."
    return [Section("Evidence", intro, tables=tables, notes=notes, code="\n".join(commands))]


def _witnesses(one: RequirementRecord) -> Table | None:
    if one.passed or not one.witnesses:
        return None
    closest = sorted(one.witnesses, key=lambda witness: (witness.distance or 0.0, witness.index))
    rows = [
        cells(
            str(witness.index),
            str(witness.label),
            str(witness.adversarial_label),
            "-" if witness.distance is None else f"{witness.distance:.4g}",
            witness.attack or "",
        )
        for witness in closest[:_SOME]
    ]
    more = f", the closest {_SOME} of {len(closest)}" if len(closest) > _SOME else ""
    return Table(f"{one.model}, {one.name}{more}", ("image", "label", "answered", "distance", "attack"), rows)


def _provenance(record: GateRecord) -> Section:
    rows = [
        cells("policy", f"{record.policy.path}, sha256 {record.policy.sha256}"),
        *(cells(f"model {model.name}", f"sha256 {model.sha256}") for model in record.models),
        cells("images and labels", f"sha256 {record.data.sha256}"),
        cells("versions", ", ".join(f"{name} {value}" for name, value in record.versions.model_dump().items())),
        cells("device", record.device),
        *(
            cells(f"attacks on {run.model}, {run.norm} eps {run.eps:g}", f"{run.plan}; {run.stopped or 'to its end'}")
            for run in record.runs
        ),
    ]
    return Section("What was run", tables=[Table("What was run", ("what", "value"), rows)])
