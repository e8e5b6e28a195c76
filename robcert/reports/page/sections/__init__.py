"""The sections of a report; one file each, a function from the sources to what is shown, or None."""

from __future__ import annotations

from robcert.reports.page.parts import Section
from robcert.reports.page.sections.answers import answers
from robcert.reports.page.sections.bins import bins
from robcert.reports.page.sections.bracket import bracket
from robcert.reports.page.sections.curves import attacked_error, certified, radii
from robcert.reports.page.sections.gallery import gallery
from robcert.reports.page.sections.jacobians import jacobians
from robcert.reports.page.sections.norms import norms
from robcert.reports.page.sections.provenance import provenance
from robcert.reports.page.sections.sweep import sweep
from robcert.reports.page.sections.warned import warned
from robcert.reports.page.sources import Sources

_ORDER = (
    bracket,
    sweep,
    attacked_error,
    certified,
    radii,
    bins,
    answers,
    norms,
    jacobians,
    gallery,
    warned,
    provenance,
)


def sections(sources: Sources) -> list[Section]:
    """Those that have something to show, in the order of the page."""
    return [found for make in _ORDER if (found := make(sources)) is not None]
