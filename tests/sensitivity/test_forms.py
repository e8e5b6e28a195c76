"""The published schemas of jacobian, detect, screen, compare and separation are those of the code."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from robcert.reports import compare, detection, jacobian, separation

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
FORMS = {
    "jacobian": jacobian.schema(),
    "compare": compare.schema(),
    "separation": separation.schema(),
    "detect": detection.schema(),
    "screen": detection.schema(detection.ScreenRecord),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_published_schema_is_that_of_the_code(name: str) -> None:
    published = SCHEMAS / f"{name}-1.json"
    assert published.read_text() == FORMS[name], f"print it again, see the end of robcert/reports for {published.name}"
    content = json.loads(published.read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    assert content["properties"]["schema"]["const"] == f"robcert.{name}/1"
