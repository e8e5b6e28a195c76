"""The page: its numbers are the json's, it refers to nothing outside, and its bytes are reproducible."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from records import HOSTILE, record

from robcert.errors import UsageError
from robcert.policy.record import GateRecord
from robcert.reports import renderer_of
from robcert.reports.page.report import report

_VOID = {"meta", "link", "img", "br", "path", "use"}


class Page(HTMLParser):
    """Elements with their attributes, numbers with the place that they come from, and whether tags match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.numbers: dict[str, tuple[str, str]] = {}
        self.text = ""
        self._key: tuple[str, str] | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in _VOID:
            self.open.append(tag)
        if found.get("data-key"):
            self._key = (str(found["data-key"]), str(found["data-value"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        assert self.open.pop() == tag
        self._key = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._key is not None:
            self.numbers[self._key[0]] = (self._key[1], data)


def _at(content: Any, path: str) -> Any:
    for part in path.split("/"):
        content = content[int(part)] if isinstance(content, list) else content[part]
    return content


def test_every_number_is_the_number_of_the_json(page: Path, three: dict[str, Path]) -> None:
    found = Page(page.read_text(encoding="utf-8")).numbers
    records = {str(three["run"]): json.loads((three["run"] / "record.json").read_text())}
    records |= {str(path): json.loads(path.read_text()) for name, path in three.items() if name != "run"}
    used = set()
    for key, (value, text) in found.items():
        name, _, path = key.partition(": ")
        expected = _at(records[name], path)
        used.add(re.sub(r"\d+", "#", path))
        if expected is None:
            assert value == ""
            continue
        assert float(value) == expected, key
        shown = float(text.split(" ")[0].replace(",", ""))
        assert shown == pytest.approx(expected, rel=1e-3), key
    assert len(found) > 100
    assert {
        "models/#/natural_correct", "models/#/verdicts/open/#", "models/#/verdicts/certified/#",
        "models/#/legs/#/attacked_correct/#", "models/#/legs/#/forwards", "models/#/certified_correct/#",
        "models/#/bins/#/certified", "models/#/layers/#/l#_upper", "models/#/lipschitz/l#",
        "models/#/statistics/loss-l#/max",
    } <= used  # fmt: skip


def test_curves_count_the_images_of_the_json(page: Path, three: dict[str, Path]) -> None:
    """The tables under the curves, computed again from the images of the record."""
    models = json.loads((three["run"] / "record.json").read_text())["models"]
    text = page.read_text(encoding="utf-8")
    for title, counted in (
        ("Error found by attacks", lambda one, eps: one["distance"] is not None and one["distance"] <= eps),
        ("Certified accuracy by", lambda one, eps: (one["radius"] or 0) > eps),
    ):
        table = re.search(rf"<caption>{title}.*?</table>", text, re.DOTALL)
        assert table is not None
        head = re.findall(r"<th scope=\"col\">(.*?)</th>", table[0])[1:]
        rows = re.findall(r"<th scope=\"row\">(.*?)</th>(.*?)</tr>", table[0])
        assert len(rows) == 21
        for eps, cells in rows[1:-1:5]:
            counts = [None if cell == "not known" else int(cell.split(" (")[0]) for cell in _cells(cells)]
            assert len(counts) == 3
            close = [
                sorted(float(one["distance"] or one["radius"] or 0) for one in model["images"]) for model in models
            ]
            for name, count in zip(head, counts, strict=True):
                model = next(one for one in models if one["name"] == name)
                skipped = any(one["distance"] is None and (one["radius"] or 0) > 0.75 for one in model["images"])
                if count is None:
                    assert (title, skipped) == ("Error found by attacks", True)
                    assert float(eps) > 0.75, "beyond the largest budget certified images were not attacked"
                    continue
                assert title != "Error found by attacks" or not skipped or float(eps) <= 0.75
                expected = sum(counted(one, float(eps)) for one in model["images"])
                assert abs(count - expected) <= 1, (title, eps, name, close[0][:3])  # eps is printed with four digits
    assert text.count("<figure>") >= 8


def _cells(row: str) -> list[str]:
    return re.findall(r"<td>(.*?)</td>", row)


def test_it_refers_to_nothing_outside(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    anchors = {attributes["id"] for _, attributes in parsed.tags if attributes.get("id")}
    ids = [attributes["id"] for _, attributes in parsed.tags if attributes.get("id")]
    assert len(ids) == len(set(ids)), "identifiers are unique"
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "poster", "action", "background", "xlink:href"):
                assert value is not None
                assert value.startswith(("data:", "#")), (tag, name, value[:80])
                if value.startswith("#"):
                    assert value[1:] in anchors
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)'\"]*)", text))
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text
    assert page.stat().st_size < 3 * 1024 * 1024


def test_every_plot_has_its_numbers(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    figures = re.findall(r'<figure><div class="plot".*?</figure>', text, re.DOTALL)
    assert len(figures) >= 8
    for figure in figures:
        assert 'role="img" aria-label=' in figure
        assert "<table>" in figure
        assert "<svg" in figure


def test_what_was_run_can_be_repeated(page: Path, three: dict[str, Path], tmp_path: Path) -> None:
    """The command on the page parses to the specification of the run."""
    import shlex

    from robcert.runs.directory import read_spec
    from robcert.runs.plan import parse_plan

    command = re.search(r"<pre><code>(robcert attack .*?)</code>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert command is not None
    words = shlex.split(command[1].replace("\\\n", ""))
    assert words[2:5] == ["digits-plain", "digits-at", "digits-l2nnn"]
    spec = read_spec(three["run"])
    given = dict(itertools.pairwise(words))
    assert [float(eps) for eps in given["--eps"].split(",")] == spec.threat.eps
    assert [(leg.attack, leg.iterations) for leg in parse_plan(given["--plan"])] == [("cw", 3), ("cw", 30)]
    assert (given["--goal"], given["--certify"], given["--seed"]) == (spec.goal, spec.certify, str(spec.seed))


def test_the_bytes_are_reproducible(page: Path, three: dict[str, Path], tmp_path: Path) -> None:
    report(list(three.values()), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


@pytest.mark.parametrize("first", range(0, len(HOSTILE) - 1, 3))
def test_hostile_names_in_a_report(first: int, page: Path, three: dict[str, Path], tmp_path: Path) -> None:
    """Models, data and warnings that would like to be markup, in plots and in tables."""
    run = tmp_path / "run"
    shutil.copytree(three["run"], run)
    texts = [HOSTILE[k] for k in range(first, min(first + 3, len(HOSTILE) - 1))]
    content = json.loads((run / "record.json").read_text())
    content["data"]["name"] = texts[0]
    for k, model in enumerate(content["models"]):
        text = texts[k % len(texts)]
        model["name"] = text
        model["warnings"] = [{"name": text, "message": text, "advice": text, "images": [1]}]
    (run / "record.json").write_text(json.dumps(content))
    report([run], tmp_path / "page.html", title=texts[-1])
    parsed = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert {tag for tag, _ in parsed.tags} <= {tag for tag, _ in Page(page.read_text(encoding="utf-8")).tags}
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2028]", parsed.text)
    assert (tmp_path / "page.html").stat().st_size < 3 * 1024 * 1024


def test_what_is_no_text_at_all_is_refused(three: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(three["run"], run)
    content = json.loads((run / "record.json").read_text())
    content["models"][0]["name"] = "\ud800"
    (run / "record.json").write_text(json.dumps(content))
    with pytest.raises(UsageError):
        report([run], tmp_path / "page.html")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_in_the_page_of_a_gate(text: str) -> None:
    hostile = Page(renderer_of(GateRecord, "html")(record(name=text, requirement=text, path=text, data=text)))
    usual = Page(renderer_of(GateRecord, "html")(record()))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in usual.tags]


def test_what_is_no_run_is_refused(tmp_path: Path, three: dict[str, Path]) -> None:
    (tmp_path / "x.json").write_text('{"schema": "other/1"}')
    for path, says in (
        (tmp_path / "x.json", "other/1"),
        (tmp_path, "is not a run directory"),
        (tmp_path / "none", "cannot"),
    ):
        with pytest.raises(UsageError, match=says):
            report([path], tmp_path / "page.html")
    with pytest.raises(UsageError, match="cannot write"):
        report([three["norms.json"]], tmp_path / "no" / "page.html")
