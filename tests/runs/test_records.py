"""The published schemas of jacobian, detect, screen, compare and separation are those of the code."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from robcert.runs.records import schema
from robcert.runs.records.__main__ import FORMS

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


@pytest.mark.parametrize("name", FORMS)
def test_the_published_schema_is_that_of_the_code(name: str) -> None:
    published = SCHEMAS / f"{name}-1.json"
    assert published.read_text() == schema(FORMS[name]), f"python -m robcert.runs.records {name} > {published}"
    content = json.loads(published.read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    assert content["properties"]["schema"]["const"] == f"robcert.{name}/1"
