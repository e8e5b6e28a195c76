"""Every format: a snapshot, its own parser, and names that would like to be markup."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml
from records import HOSTILE, record

from robcert.policy.record import GateRecord, schema
from robcert.reports import formats, renderer_of
from robcert.reports.gate.github import LARGEST_SUMMARY, summary
from robcert.reports.text import plain

_SNAPSHOTS = Path(__file__).with_name("snapshots")
_SCHEMAS = Path(__file__).with_name("schemas")
_ROOT = Path(__file__).parents[2]
_FORMATS = formats(GateRecord)


@pytest.fixture(autouse=True)
def _plain_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setattr("robcert.reports.gate.sarif.__version__", "0.1.0")
    monkeypatch.setattr("robcert.reports.page.render.__version__", "0.1.0")


def test_there_is_a_snapshot_of_every_format() -> None:
    assert {path.stem for path in _SNAPSHOTS.iterdir()} == {*_FORMATS, "summary"}


@pytest.mark.parametrize("name", [*_FORMATS, "summary"])
def test_snapshot(name: str) -> None:
    """ROBCERT_SNAPSHOTS=update writes them anew; what changed is then read in the diff."""
    text = (summary if name == "summary" else renderer_of(GateRecord, name))(record())
    path = _SNAPSHOTS / f"{name}.txt"
    if os.environ.get("ROBCERT_SNAPSHOTS") == "update":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_json_is_of_the_published_schema() -> None:
    text = renderer_of(GateRecord, "json")(record())
    published = _ROOT / "docs" / "schemas" / "gate-1.json"
    assert published.read_text(encoding="utf-8") == schema(), (
        "python -m robcert.policy.record > docs/schemas/gate-1.json"
    )
    jsonschema.validate(json.loads(text), json.loads(schema()))
    assert GateRecord.model_validate_json(text) == record()


def test_junit_has_a_case_a_model_and_requirement() -> None:
    xml = JUnitXml.fromstring(renderer_of(GateRecord, "junit")(record()).encode())
    suites = list(xml)
    assert [suite.name for suite in suites] == ["digits-l2nnn"]
    cases = list(suites[0])
    assert [case.name for case in cases] == ["robust 6", "robust 10", "robust 16", "robust 22"]
    assert (xml.tests, xml.failures, xml.errors) == (4, 1, 1)
    assert [type(case.result[0]) if case.result else None for case in cases] == [None, None, Error, Failure]


def test_sarif_points_at_the_policy_with_stable_fingerprints() -> None:
    content = json.loads(renderer_of(GateRecord, "sarif")(record()))
    results = content["runs"][0]["results"]
    assert [(one["level"], one["ruleId"]) for one in results] == [
        ("warning", "robcert/attacked_accuracy_drop"),
        ("error", "robcert/attacked_accuracy"),
    ]
    rules = content["runs"][0]["tool"]["driver"]["rules"]
    assert [rules[one["ruleIndex"]]["id"] for one in results] == [one["ruleId"] for one in results]
    lines = [one["locations"][0]["physicalLocation"]["region"]["startLine"] for one in results]
    assert lines == [16, 22]
    moved = record().model_copy(update={"versions": record().versions.model_copy(update={"torch": "9"})})
    again = json.loads(renderer_of(GateRecord, "sarif")(moved))["runs"][0]["results"]
    prints = [one["partialFingerprints"] for one in results]
    assert [one["partialFingerprints"] for one in again] == prints
    assert len({str(one) for one in prints}) == 2


def test_github_commands_are_one_line_each_and_escaped() -> None:
    lines = renderer_of(GateRecord, "github")(record()).splitlines()
    assert [re.match(r"::(\w+) ", line)[1] for line in lines[:-1]] == ["error", "error"]  # type: ignore[index]
    # One colon pair ends the properties: everything before it has no raw colon or comma of its own.
    for line in lines[:-1]:
        properties = line.split("::")[1].partition(" ")[2]
        assert [part.partition("=")[0] for part in properties.split(",")] == ["file", "line", "title"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("name", [*_FORMATS, "summary"])
def test_hostile_names_stay_names(name: str, text: str) -> None:
    text = text.encode("utf-8", "replace").decode() if name in ("json", "sarif") and "\ud800" in text else text
    harmless = record()
    hostile = record(name=text, requirement=text, path=text, data=text, directory=text)
    render = summary if name == "summary" else renderer_of(GateRecord, name)
    out, usual = render(hostile), render(harmless)
    assert isinstance(out.encode("utf-8"), bytes)

    if name in ("json", "sarif"):
        content = json.loads(out)
        found = (
            content["models"][0]["name"] if name == "json" else content["runs"][0]["results"][0]["properties"]["model"]
        )
        assert found == text
        return
    assert len(out) < len(usual) + 60 * (1100 if name == "html" else 220), "a long name is cut"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2028\u2029]", out)
    if name == "junit":
        tree = ElementTree.fromstring(out)
        assert [element.tag for element in tree.iter()] == [
            element.tag for element in ElementTree.fromstring(usual).iter()
        ]
    elif name == "github":
        commands = [line for line in out.splitlines() if line.lstrip().startswith("::")]
        assert len(commands) == 2
        assert all(line.startswith("::error file=") for line in commands)
        assert "##[" not in out
        assert not re.search(r"%0[AD]", out)
    elif name in ("markdown", "summary"):
        assert not re.search(r"<\s*[a-zA-Z/!]", out)
        rows = [line for line in out.splitlines() if line.startswith("|")]
        assert len(rows) == 6
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {6}
        assert "@everyone" not in out
        assert not re.search(r"(?<!\\)\]\((?!\\)", out)
        assert not any(line.startswith("::") for line in out.splitlines())
    elif name == "console":
        assert not any(line.lstrip().startswith("::") for line in out.splitlines())


def test_a_summary_stays_within_what_github_takes() -> None:
    one = record()
    many = one.model_copy(update={"requirements": [*one.requirements] * 3000})
    text = summary(many)
    assert len(text.encode()) <= LARGEST_SUMMARY
    assert "does not fit" in text
    assert text.index("**failed**") < text.index("**proven**"), "what failed is there"
    assert "does not fit" not in summary(one)


def test_plain_keeps_ordinary_names() -> None:
    assert plain("digits-l2nnn (v2), größer") == "digits-l2nnn (v2), größer"
    assert plain("a\nb") == "a\\nb"
    assert len(plain("x" * 10_000)) <= 200


@pytest.mark.parametrize("text", ["digits-l2nnn", *HOSTILE[:-1]], ids=range(len(HOSTILE)))
def test_sarif_is_of_the_published_schema(text: str) -> None:
    raw = (_SCHEMAS / "sarif-2.1.0-rtm.5.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() in (_SCHEMAS / "README.md").read_text(), "the file is the published one"
    published = json.loads(raw)
    content = json.loads(renderer_of(GateRecord, "sarif")(record(name=text, requirement=text, path=text)))
    jsonschema.Draft4Validator(published, format_checker=jsonschema.FormatChecker()).validate(content)
    broken = {**content, "runs": [{**content["runs"][0], "results": [{"level": "bad"}]}]}
    assert not jsonschema.Draft4Validator(published).is_valid(broken)
