"""SARIF 2.1.0: one result a model and requirement, at the line of the requirement in the policy."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from robcert import __version__
from robcert.policy.kinds import kinds
from robcert.policy.record import GateRecord, RequirementRecord
from robcert.reports import renderer
from robcert.reports.gate.words import asked, figure, grade
from robcert.reports.text import plain

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


@renderer("sarif", GateRecord)
def render(record: GateRecord) -> str:
    """The JSON text. What holds is no result: code scanning opens an alert for each, and closes those that are gone."""
    names = kinds.names()
    driver = {
        "name": "robcert",
        "semanticVersion": __version__,
        "rules": [
            {
                "id": f"robcert/{name}",
                "name": "".join(part.capitalize() for part in name.split("_")),
                "shortDescription": {"text": f"{kinds.get(name).title} is {kinds.get(name).sign} what the policy asks"},
                "defaultConfiguration": {"level": "error"},
            }
            for name in names
        ],
    }
    content = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "results": [
                    _result(record, one, names.index(one.kind)) for one in record.requirements if not one.passed
                ],
                "properties": {"verdict": record.verdict, "passed": record.passed},
            }
        ],
    }
    return json.dumps(content, indent=2)


def _result(record: GateRecord, one: RequirementRecord, rule: int) -> dict[str, Any]:
    return {
        "ruleId": f"robcert/{one.kind}",
        "ruleIndex": rule,
        "kind": "fail",
        "level": "error" if one.verdict == "failed" else "warning",
        "message": {
            "text": f"{plain(one.model)}, {plain(one.name)}: {grade(one)}. Asked: {asked(one)}; found: {figure(one)}. "
            f"{plain(one.reason, 2000)}."
        },
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(record.policy.path), "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": one.line},
                }
            }
        ],
        "partialFingerprints": {"robcertRequirement/v1": _fingerprint(one)},
        "properties": {
            "model": one.model,
            "requirement": one.name,
            "verdict": one.verdict,
            "value": one.value,
            "limit": one.limit,
        },
    }


def _fingerprint(one: RequirementRecord) -> str:
    """The same for the same question, whatever the answer, the line or the weights are."""
    text = json.dumps([one.model, one.name, one.kind, one.norm, one.eps])
    return hashlib.sha256(text.encode()).hexdigest()


def _uri(path: str) -> str:
    return quote(path.replace("\\", "/").removeprefix("./").encode("utf-8", "surrogateescape"), safe="/")
