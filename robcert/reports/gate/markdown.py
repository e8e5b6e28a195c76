"""A section of GitHub's markdown: a comment on a pull request, a summary of a job."""

from __future__ import annotations

from robcert.policy.record import GateRecord, RequirementRecord
from robcert.reports import renderer
from robcert.reports.gate.words import asked, figure, grade, images, show, spent
from robcert.reports.text import markdown

_SOME = 50


@renderer("markdown", GateRecord)
def render(record: GateRecord) -> str:
    """A heading with the verdict, a table, and the reasons."""
    return "\n".join([*head(record), *(row(one) for one in record.requirements), "", *reasons(record), *tail(record)])


def head(record: GateRecord) -> list[str]:
    """The verdict, which images, and the head of the table."""
    said = "passed" if record.passed else "not passed"
    return [
        f"## robcert gate: {said} ({record.verdict})",
        "",
        f"{markdown(record.policy.path)} on {markdown(images(record))}",
        "",
        "| model | requirement | asked | found | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]


def row(one: RequirementRecord) -> str:
    """A row of the table."""
    cells = (markdown(one.model), markdown(one.name), markdown(asked(one)), markdown(figure(one)), f"**{grade(one)}**")
    return f"| {' | '.join(cells)} |"


def reasons(record: GateRecord) -> list[str]:
    """Return the reasons, a line each."""
    return [line for one in record.requirements for line in (reason(one), *_shown(record, one))]


def _shown(record: GateRecord, one: RequirementRecord) -> list[str]:
    command = show(record, one)
    return [f"  See them: {markdown(command, 2000)}"] if command else []


def reason(one: RequirementRecord) -> str:
    """Return the reason, with the images that are newly broken."""
    text = f"- **{one.verdict}**: {markdown(one.model)}, {markdown(one.name)}: {markdown(one.reason, 2000)}"
    if one.pairs is not None and one.pairs.newly_broken:
        some = ", ".join(str(index) for index in one.pairs.newly_broken[:_SOME])
        rest = f" and {len(one.pairs.newly_broken) - _SOME} more" if len(one.pairs.newly_broken) > _SOME else ""
        text += f" (McNemar p = {one.pairs.mcnemar:.2g}; newly broken images: {some}{rest})"
    return text


def tail(record: GateRecord) -> list[str]:
    """Return the cost, and the software that ran."""
    versions = record.versions
    return ["", f"{markdown(spent(record))}; robcert {versions.robcert}, torch {versions.torch}"]
