"""Puts parts into the template. Every text is escaped; only plots that were drawn here are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from robcert import __version__
from robcert.reports.page.parts import Page, Section
from robcert.reports.text import plain

_MOST = 1000
_HERE = files("robcert.reports.page").joinpath("templates")


def render_page(page: Page) -> str:
    """Return the whole page."""
    environment = Environment(
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["drawn"] = Markup
    environment.filters["exact"] = repr
    environment.filters["whole"] = _whole
    template = environment.from_string(_HERE.joinpath("page.html.j2").read_text(encoding="utf-8"))
    style = Markup(_HERE.joinpath("report.css").read_text(encoding="utf-8"))
    text = template.render(page=page, sections=_distinct(page.sections), style=style, version=__version__)
    return "\n".join(line for line in text.splitlines() if line.strip()) + "\n"


def _whole(text: str) -> Markup:
    """Lines that are not cut, however long they are."""
    return escape("\n".join(plain(line, 12 * len(line) + 1) for line in text.split("\n")))


def _visible(value: Any) -> Any:
    """Names without control characters, and none longer than a person reads; what is drawn here is left alone."""
    if isinstance(value, Markup) or not isinstance(value, str) or value.startswith("data:image/"):
        return value
    return "\n".join(plain(line, _MOST) for line in value.split("\n"))


def _distinct(sections: Sequence[Section]) -> list[Section]:
    seen: dict[str, int] = {}
    found: list[Section] = []
    for section in sections:
        seen[section.title] = seen.get(section.title, 0) + 1
        again = seen[section.title]
        found.append(replace(section, title=f"{section.title} ({again})") if again > 1 else section)
    return found
