"""GitHub: one workflow command a requirement that does not hold, and the summary of the job."""

from __future__ import annotations

from robcert.policy.record import GateRecord, RequirementRecord
from robcert.reports import renderer
from robcert.reports.gate.markdown import head, reason, row, tail
from robcert.reports.gate.words import asked, figure
from robcert.reports.text import plain

LARGEST_SUMMARY = 1024 * 1024
"""Bytes that GitHub takes as the summary of a step."""
_LEFT_OUT = "\nThe rest does not fit into a summary; the json has all of it.\n"


@renderer("github", GateRecord)
def render(record: GateRecord) -> str:
    """``::error`` or ``::warning`` lines, then one line with the verdict. The summary is `summary`."""
    lines = [_command(record, one) for one in record.requirements if not one.passed]
    said = "passed" if record.passed else "not passed"
    held = sum(one.passed for one in record.requirements)
    return "\n".join([*lines, f"robcert gate {said} ({record.verdict}): {held} of {len(record.requirements)} hold"])


def summary(record: GateRecord, largest: int = LARGEST_SUMMARY) -> str:
    """Markdown for $GITHUB_STEP_SUMMARY: as many rows and reasons as fit, those that do not hold first."""
    ordered = sorted(record.requirements, key=lambda one: one.passed)
    kept = "\n".join(head(record)) + "\n"
    room = largest - len((kept + "\n".join(tail(record)) + _LEFT_OUT).encode()) - 2
    complete = True
    for make in (row, reason):
        if make is reason:
            kept += "\n"
        for one in ordered:
            line = make(one) + "\n"
            if len(line.encode()) > room:
                complete = False
                break
            room -= len(line.encode())
            kept += line
    return kept + "\n".join(tail(record)) + ("\n" if complete else _LEFT_OUT)


def data(text: str) -> str:
    """The message of a workflow command."""
    return plain(text, 4000).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace("##[", "# #[")


def value(text: str) -> str:
    """A property of a workflow command."""
    return data(text).replace(":", "%3A").replace(",", "%2C")


def _command(record: GateRecord, one: RequirementRecord) -> str:
    level = "warning" if one.verdict == "inconclusive" and record.passed else "error"
    title = f"{one.verdict}: {plain(one.model, 80)}, {plain(one.name, 80)}"
    message = f"{plain(one.model)}: asked {asked(one)}, found {figure(one)}. {plain(one.reason, 2000)}"
    place = f"file={value(record.policy.path)},line={one.line}"
    return f"::{level} {place},title={value(title)}::{data(message)}"
