"""`robcert report`: runs and records as one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robcert.errors import UsageError
from robcert.files import write_text
from robcert.reports.page.parts import Line, Page
from robcert.reports.page.render import render_page
from robcert.reports.page.sections import sections
from robcert.reports.page.sources import Sources, read_sources
from robcert.reports.page.summary import summary


def report(paths: Sequence[str | Path], output: str | Path = "report.html", title: str | None = None) -> str:
    """Write one self-contained page of HTML about runs and records: no script, nothing loaded from anywhere.

    Args:
        paths: run directories, and json files of certify, verify, norms and jacobian.
        output: the page.
        title: by default the names of the models.

    Returns:
        A line that says what was written.

    Raises:
        UsageError: a path is no run and no record; the page cannot be written.
    """
    output = Path(output)
    sources = read_sources([Path(path) for path in paths])
    made = page_of(sources)
    page = render_page(replace(made, title=title or made.title))
    try:
        write_text(output, page)
    except OSError as error:
        raise UsageError(f"cannot write {output} ({error.strerror})", "Name another file with --output") from None
    return f"Wrote {output}: {len(made.sections)} sections, {len(page.encode()) / 1024:.0f} KiB"


def page_of(sources: Sources) -> Page:
    """Return the page of some sources."""
    names = [model.name for run in sources.runs for model in run.record.models]
    records = [*sources.certificates, *sources.norms, *sources.jacobians]
    names += [model.name for _, record in records for model in record.models]
    names += [answer.model for _, record in sources.answers for answer in record.answers]
    lead = [Line(f"{run.record.data.name} {run.record.data.split}, {run.record.data.n} images") for run in sources.runs]
    title = f"Robustness of {', '.join(dict.fromkeys(names)) or 'models'}"
    tables, sentences = summary(sources)
    return Page(title, list(dict.fromkeys(lead)), tables, sentences, sections(sources))
