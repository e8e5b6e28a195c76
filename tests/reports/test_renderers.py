"""Every record has the formats that its command promises; one file makes a format for several records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import robcert
from robcert.errors import UsageError
from robcert.policy.record import GateRecord
from robcert.reports import formats, renderer, renderer_of
from robcert.runs.record import RunRecord
from robcert.runs.records.__main__ import FORMS
from robcert.runs.records.certify import CertifyRecord
from robcert.runs.records.norms import NormsRecord
from robcert.types import Threat

WHOLE = {"console", "json", "markdown", "html"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    model, data, threat = robcert.load_model("digits-l2nnn"), robcert.load_dataset("digits", n=6), Threat("l2", (0.3,))
    run = tmp_path_factory.mktemp("runs") / "run"
    return [
        robcert.attack(model, data, threat, "pgd:2", run=run),
        robcert.attack(model, data, threat, "pgd:2"),
        robcert.certify(model, data, threat, "gap", bins=2),
        robcert.norms(model),
        robcert.jacobian(model, data),
    ]


def test_every_record_has_its_formats() -> None:
    for record in (RunRecord, CertifyRecord, NormsRecord, GateRecord):
        assert set(formats(record)) >= WHOLE
    for record in FORMS.values():
        assert set(formats(record)) >= {"console", "json"}


def test_every_format_names_the_model_and_its_numbers(found: list[Any]) -> None:
    for record in found:
        for name in sorted(WHOLE):
            text = renderer_of(type(record), name)(record)
            assert record.models[0].name in text
            assert text == text.rstrip("\n"), "the command ends the last line"
        assert json.loads(renderer_of(type(record), "json")(record)) == json.loads(record.to_json())


def test_markdown_has_the_numbers_of_plots(found: list[Any]) -> None:
    stored, memory, certified, norms, _ = (renderer_of(type(one), "markdown")(one) for one in found)
    assert "robcert attack digits-l2nnn" in stored
    assert "robcert attack digits-l2nnn" not in memory, "the specification is stored with the run"
    right = found[2].models[0].certified_correct[0]
    assert f"| {right} (" in certified
    assert f"{found[3].models[0].lipschitz.l2:.4g}" in norms


def test_one_function_renders_several_records(found: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from robcert.reports import renderers

    monkeypatch.setattr(renderers, "_entries", dict(renderers._entries))

    @renderer("names", RunRecord, CertifyRecord, NormsRecord)
    def names(record: Any) -> str:
        return ",".join(model.name for model in record.models)

    assert {renderer_of(type(record), "names")(record) for record in found[:4]} == {"digits-l2nnn"}
    with pytest.raises(UsageError, match="unknown format 'marcdown'") as refused:
        renderer_of(NormsRecord, "marcdown")
    assert "'markdown'" in refused.value.do


def test_a_page_is_written_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robcert.cli.main import _run

    monkeypatch.chdir(tmp_path)
    assert _run(["norms", "digits-l2nnn", "--format", "html", "--output", "n.html"]) == 0
    assert (tmp_path / "n.html").read_text().startswith("<!doctype html>")
