"""The sections of a report; one file each, a function from the sources to what is shown, or None."""

from __future__ import annotations

from robcert.report.page.parts import Section
from robcert.report.page.sections.bins import bins
from robcert.report.page.sections.bracket import bracket
from robcert.report.page.sections.curves import attacked_error, certified, radii
from robcert.report.page.sections.gallery import gallery
from robcert.report.page.sections.jacobians import jacobians
from robcert.report.page.sections.norms import norms
from robcert.report.page.sections.provenance import provenance
from robcert.report.page.sections.sweep import sweep
from robcert.report.page.sections.warned import warned
from robcert.report.page.sources import Sources

_ORDER = (bracket, sweep, attacked_error, certified, radii, bins, norms, jacobians, gallery, warned, provenance)


def sections(sources: Sources) -> list[Section]:
    """Those that have something to show, in the order of the page."""
    return [found for make in _ORDER if (found := make(sources)) is not None]
