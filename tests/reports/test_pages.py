"""What a page and a picture look like, as far as their structure says: tables first, widths, colours, names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import robcert
from robcert.plotting import even_bins, logarithmic_bins, shares
from robcert.reports import renderer_of
from robcert.reports.gallery import draw, examples_of
from robcert.reports.page.charts import VERDICTS, Line, histogram, lines, verdicts
from robcert.runs.record import PlanEndRecord, RunRecord
from robcert.runs.records.certify import CertifyRecord
from robcert.types import Threat

STYLE = files("robcert.reports.page").joinpath("templates").joinpath("report.css").read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path]:
    """A run on digits whose classes have names, all but the last."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    names = [f"{'a long name of a class ' * 3}{k}" for k in range(9)]
    data = replace(robcert.load_dataset("digits", n=20), classes=(*names, "9"))
    model = robcert.load_model("digits-plain")
    return robcert.attack(model, data, Threat("l2", (0.4, 2.0)), "pgd:3,pgd:30", run=directory), directory


def head_and_rows(page: str) -> tuple[list[str], list[list[str]]]:
    """The first table of a page."""
    table = re.search(r"<table>.*?</table>", page, re.DOTALL)
    assert table is not None
    rows = re.findall(r"<tr>(.*?)</tr>", table[0], re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return cells[0], cells[1:]


def test_a_run_begins_with_its_answer(run: tuple[RunRecord, Path]) -> None:
    record, _ = run
    page = renderer_of(RunRecord, "html")(record)
    head, rows = head_and_rows(page)
    assert head == ["model", "threat", "natural", "attacked", "certified", "open", "verdict"]
    (model,) = record.models
    verdict = model.verdicts
    for k, row in enumerate(rows):
        certified, left = np.asarray(verdict.certified)[k], np.asarray(verdict.open)[k]
        assert row[:2] == ["digits-plain", f"l2 {record.threat.eps[k]:g}"]
        counts = [int(cell.split(" ")[0]) for cell in row[2:6]]
        assert counts == [model.natural_correct, certified + left, certified, left]
    assert model.plateau is not None
    assert sum(model.plateau.verdict in row[-1] for row in rows) == 1
    assert page.index("<table>") < min(page.index("<nav"), page.index("<svg"), page.index("<h2"))
    sentence = re.search(r"<p>(digits-plain: the true accuracy[^<]*)</p>", page)
    assert sentence is not None
    assert page.index("</table>") < sentence.start() < page.index("<nav")
    markdown = renderer_of(RunRecord, "markdown")(record)
    assert markdown.index("| model | threat | natural |") < markdown.index("## ")


def test_a_plan_without_a_sweep_has_the_verdict_of_its_end(run: tuple[RunRecord, Path]) -> None:
    record, _ = run
    end = PlanEndRecord(
        verdict="settled",
        leg="pgd:30",
        after=0.5,
        entered=3,
        newly_broken=0,
        interval=(0.0, 0.6),
        last=None,
        last_at=None,
    )
    for found, shown in ((end, ["", "settled"]), (None, ["no verdict", "no verdict"])):
        model = record.models[0].model_copy(update={"plateau": None, "plan_end": found})
        _, rows = head_and_rows(renderer_of(RunRecord, "html")(record.model_copy(update={"models": [model]})))
        assert [row[-1] for row in rows] == shown


def test_certificates_alone_are_not_called_an_attack() -> None:
    model, data = robcert.load_model("digits-l2nnn"), robcert.load_dataset("digits", n=10)
    record = robcert.certify(model, data, Threat("l2", (0.1, 0.4)), "gap")
    head, rows = head_and_rows(renderer_of(CertifyRecord, "html")(record))
    assert {row[head.index("attacked")] for row in rows} == {"not attacked"}
    shown = [int(row[head.index("certified")].split(" ")[0]) for row in rows]
    assert shown == record.models[0].certified_correct


def test_plots_follow_the_width_of_the_page() -> None:
    line = Line("one $name", [0.0, 1.0], [0.2, 0.9])
    for svg in (
        lines([line], "x", "y", "a b"),
        verdicts([("m", [0.2, 0.3, 0.4, 0.1])], "c"),
        histogram([("one", [0.5, 0.5])], [0.1, 1.0, 10.0], "x", "d", log=True),
    ):
        heads = re.findall(r"<svg[^>]*>", svg)
        assert [re.findall(r'class="(\w+)"', head) for head in heads] == [["narrow"], ["wide"]]
        widths = [float(re.findall(r'viewBox="0 0 ([\d.]+)', head)[0]) for head in heads]
        assert widths[0] < 400 < widths[1], "text of 10 units is read at about its size"
        assert not any(re.search(r"\s(width|height)=", head) for head in heads)
        assert "#000000" not in svg
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
    assert all(f">{name}</text>" in verdicts([("m", [0.25] * 4)], "e") for name in VERDICTS)


def test_lines_and_bars_keep_off_the_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    for draw_one in (
        lambda: lines([Line("m", [0.0, 1.0], [0.0, 1.0])], "x", "y", "a"),
        lambda: verdicts([("m", [1.0, 0.0, 0.0, 0.0]), ("o", [0.0, 0.0, 0.0, 1.0])], "b"),
    ):
        with pytest.raises(ValueError, match="substring"):  # nothing was written into the text
            draw_one()
    assert len(drawn) == 2
    for figure in drawn:
        (axes,) = figure.axes
        inside = axes.dataLim
        for (low, high), (first, last) in zip(
            (sorted(axes.get_xlim()), sorted(axes.get_ylim())),
            ((inside.x0, inside.x1), (inside.y0, inside.y1)),
            strict=True,
        ):
            assert low < first <= last < high


def test_nothing_is_wider_than_a_telephone() -> None:
    rules = re.sub(r"/\*.*?\*/", "", STYLE, flags=re.DOTALL)
    for value, unit in re.findall(r"(?<![\w-])(?:min-)?width:\s*([\d.]+)(px|rem)", rules.replace("(min-width", "(")):
        assert float(value) * (16 if unit == "rem" else 1) <= 390 - 2 * 16
    assert re.search(r"\.plot svg \{[^}]*width: 100%", rules)
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", rules)


def test_the_stylesheet_has_dark_colours_and_rules_for_paper() -> None:
    variables = set(re.findall(r"(--\w+):", STYLE.split("@media")[0]))
    dark = re.search(r"@media \(prefers-color-scheme: dark\) \{ :root \{(.*?)\}", STYLE, re.DOTALL)
    paper = re.search(r"@media print \{(.*)\}", STYLE, re.DOTALL)
    assert dark is not None
    assert paper is not None
    assert set(re.findall(r"(--\w+):", dark[1])) == set(re.findall(r"(--\w+):", paper[1])) == variables
    assert "break-inside: avoid" in paper[1]


def test_captions_have_the_names_of_classes(run: tuple[RunRecord, Path], tmp_path: Path) -> None:
    record, directory = run
    path = directory / "adversarials-digits-plain.safetensors"
    _, _, examples = examples_of(path)
    named = [one for one in examples if one.label < 9]
    assert named
    assert all(one.label_name.startswith("a long") for one in named)
    assert all(len(one.label_name) <= 24 for one in examples), "long names are shortened in the middle"
    assert all(one.label_name.endswith(str(one.label)) for one in named)
    assert {one.label_name for one in examples if one.label == 9} <= {""}
    page = renderer_of(RunRecord, "html")(record)
    closest = min(named, key=lambda one: one.distance)  # the page has eight
    assert closest.answered in page
    draw(directory, None, [closest.index], tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text()
    assert closest.label_name in text
    assert f"image {closest.index}, l2 distance" in text


def test_examples_are_drawn_in_a_grid(run: tuple[RunRecord, Path], tmp_path: Path) -> None:
    _, directory = run
    draw(directory, None, None, tmp_path / "grid.svg")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', (tmp_path / "grid.svg").read_text())
    assert size is not None
    assert 0.5 < float(size[1]) / float(size[2]) < 2


@given(st.lists(st.floats(1e-9, 1e6) | st.just(0.0), min_size=1, max_size=30))
def test_bins_with_a_logarithmic_axis(values: list[float]) -> None:
    edges = logarithmic_bins(values)
    assert 1 <= len(edges) - 1 <= 34
    assert sum(shares(values, edges)) == pytest.approx(1)
    positive = [value for value in values if value > 0]
    if positive:
        assert edges[0] <= max(min(positive), max(positive) * 1e-12) * (1 + 1e-6)
        assert edges[-1] >= max(positive) * (1 - 1e-6)


@given(st.floats(1e-6, 1e6))
def test_even_bins_are_round(end: float) -> None:
    edges = even_bins(end)
    assert edges[0] == 0
    assert edges[-1] >= end * (1 - 1e-9)
    step = f"{edges[1]:.6e}"
    assert step[:8] in ("1.000000", "2.000000", "5.000000")
    assert 4 <= len(edges) - 1 <= 22


def test_the_names_of_numbered_classes_are_not_stored(tmp_path: Path) -> None:
    from safetensors import safe_open

    model, data = robcert.load_model("digits-plain"), robcert.load_dataset("digits", n=4)
    robcert.attack(model, data, Threat("l2", (2.0,)), "pgd:3", run=tmp_path / "run")
    with safe_open(tmp_path / "run" / "adversarials-digits-plain.safetensors", framework="np") as file:
        assert "classes" not in json.loads(file.metadata()["robcert"])
