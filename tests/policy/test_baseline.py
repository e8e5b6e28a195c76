"""The baseline: its published schema, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import robcert
from robcert.errors import UsageError
from robcert.policy.baseline import Baseline, BaselineEntry, read_baseline, schema, write_baseline
from robcert.policy.schema import Requirement
from robcert.runs.spec import data_record

_PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas" / "baseline-1.json"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    data = robcert.load_dataset("digits", n=4)
    entry = BaselineEntry(
        model="ours", sha256="c" * 64, requirement="drop", norm="l2", eps=0.25, plan="pgd:10", seed=0,
        standing=[int(data.index[0]), int(data.index[2])],
    )  # fmt: skip
    found = Baseline(version="0.1.0", data=data_record(data), index=data.index.tolist(), entries=[entry])
    write_baseline(tmp_path / "baseline.json", found)
    return tmp_path / "baseline.json"


def test_it_is_of_the_published_schema(written: Path) -> None:
    assert _PUBLISHED.read_text() == schema(), "python -m robcert.policy.baseline > docs/schemas/baseline-1.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema()))
    content = json.loads(written.read_text())
    validator.validate(content)
    assert content["schema"] == "robcert.baseline/1"
    assert not validator.is_valid({**content, "schema": "robcert.baseline/2"})
    assert not validator.is_valid({**content, "index": ["first"]})


def test_it_says_which_images_stood(written: Path) -> None:
    data = robcert.load_dataset("digits", n=4)
    found = read_baseline(written, data_record(data))
    drop = Requirement(kind="attacked_accuracy_drop", limit=0.02, name="drop", norm="l2", eps=0.25)
    stood = found.of("ours", drop, "pgd:10", 0)
    assert stood == dict(zip(data.index.tolist(), [True, False, True, False], strict=True))
    assert found.of("another", drop, "pgd:10", 0) is None
    for plan, seed in (("pgd:20", 0), ("pgd:10", 1)):
        with pytest.raises(UsageError, match="measured with l2 0.25 pgd:10 .seed 0."):
            found.of("ours", drop, plan, seed)


@pytest.mark.parametrize(
    ("before", "after"),
    [("robcert.baseline/1", "robcert.baseline/2"), ('"standing"', '"stood"'), ("{", "["), ('"l2"', '"l7"')],
)
def test_another_form_is_refused(written: Path, before: str, after: str) -> None:
    written.write_text(written.read_text().replace(before, after))
    with pytest.raises(UsageError, match="is no baseline of this version") as refused:
        read_baseline(written, data_record(robcert.load_dataset("digits", n=4)))
    assert "--update-baseline" in refused.value.do
