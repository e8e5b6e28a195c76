"""The pages in headless Chromium: they load nothing, say nothing, fit the screen, and can be read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from records import record

from robcert.policy.record import GateRecord
from robcert.reports import renderer_of

_LAUNCH: dict[str, Any] = {
    # A Chromium of the system, or the one of `playwright install chromium`.
    "executable_path": next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None),
    "args": ["--no-sandbox", "--disable-gpu"],
    "timeout": 60_000,
}


@pytest.fixture(scope="session", params=["report", "gate"])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "report":
        return request.getfixturevalue("page")
    path = tmp_path_factory.mktemp("gate") / "gate.html"
    path.write_text(renderer_of(GateRecord, "html")(record()), encoding="utf-8")
    return path


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_in_a_browser(shown: Path, scheme: Any, width: int) -> None:
    """No request but the page itself, nothing on the console, nothing wider than the screen, readable colours."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(**_LAUNCH)
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        view = context.new_page()
        requests: list[str] = []
        said: list[str] = []
        view.on("request", lambda request: requests.append(request.url))
        view.on("console", lambda message: said.append(message.text))
        view.on("pageerror", lambda error: said.append(str(error)))
        view.goto(shown.as_uri())
        assert [url for url in requests if not url.startswith("data:")] == [shown.as_uri()]
        assert said == []
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        ink, paper = _colours(view, "[document.body, 'color'], [document.body, 'backgroundColor']")
        assert _contrast(ink, paper) >= 7
        assert (sum(paper) < 200) == (scheme == "dark")
        verdicts = _colours(view, "...[...document.querySelectorAll('.verdict')].map(one => [one, 'color'])")
        labels = _colours(view, "...[...document.querySelectorAll('.plot svg text')].map(one => [one, 'fill'])")
        assert labels if shown.name == "report.html" else verdicts
        assert all(_contrast(one, paper) >= 4.5 for one in (*verdicts, *labels))
        assert view.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        browser.close()


@pytest.mark.browser
def test_on_paper(page: Path) -> None:
    """Printed, every plot has its numbers beside it: what is folded on a screen is open."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(**_LAUNCH)
        view = browser.new_page()
        view.goto(page.as_uri())
        seen = "one.checkVisibility({contentVisibilityAuto: true}) ? one.offsetHeight : 0"
        heights = f"[...document.querySelectorAll('details table')].map(one => {seen})"
        assert max(view.evaluate(heights)) == 0
        view.emulate_media(media="print", color_scheme="dark")
        assert min(view.evaluate(heights)) > 0
        (paper,) = _colours(view, "[document.body, 'backgroundColor']")
        assert sum(paper) == 3 * 255, "white, in dark mode too"
        browser.close()


def _colours(view: Any, pairs: str) -> list[list[float]]:
    """The computed colours of pairs of an element and a property."""
    script = f"[{pairs}].map(([one, name]) => getComputedStyle(one)[name].match(/[\\d.]+/g).map(Number).slice(0, 3))"
    return view.evaluate(script)


def _contrast(first: list[float], second: list[float]) -> float:
    """The contrast of two colours as WCAG 2 defines it."""

    def luminance(color: list[float]) -> float:
        parts = [value / 255 for value in color[:3]]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
