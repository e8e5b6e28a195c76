"""`robcert jacobian`: the table, the record, the picture, correlations with a run, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from .conftest import Call

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def test_the_table_and_the_record(call: Call) -> None:
    shown = call("jacobian", "digits-plain", "digits-l2nnn", "--n", "30")
    assert shown.code == 0, shown.err
    for text in ("||J||_2", "||grad p||_2,inf", "||grad loss||_1", "digits-l2nnn", "bound", "eq. 3.7"):
        assert text in shown.out
    answer = call("jacobian", "digits-plain", "digits-l2nnn", "--n", "30", "--norm", "linf", "--format", "json")
    record = json.loads(answer.out)
    jsonschema.validate(record, json.loads((SCHEMAS / "jacobian-1.json").read_text()))
    assert record["data"]["n"] == 30
    for model in record["models"]:
        assert len(model["images"]) == 30
        for name, statistic in model["statistics"].items():
            values = [image["statistics"][name] for image in model["images"] if name in image["statistics"]]
            if values:
                assert statistic["mean"] == pytest.approx(sum(values) / 30)
                assert statistic["max"] == max(values)
        for end in ("operator", "logit"):
            assert model[end]["measured"] <= model[end]["bound"]
    shown = call("jacobian", "digits-plain", "--n", "10", "--norm", "linf")
    assert "||J||, inf to inf" in shown.out
    assert "||grad margin||_1" in shown.out


def test_the_picture(call: Call, tmp_path: Path) -> None:
    assert call("jacobian", "digits-plain", "--n", "20", "--plot", "h.svg").code == 0
    assert "<svg" in (tmp_path / "h.svg").read_text()
    answer = call("jacobian", "digits-plain", "--n", "20", "--plot", "h.xyz")
    assert (answer.code, answer.out) == (2, "")
    assert "--plot" in answer.err


def test_rank_correlations_with_a_run(call: Call) -> None:
    attack = ("attack", "digits-plain", "--eps", "0.5", "--n", "20", "--plan", "pgd:20", "--threads", "1")
    assert call(*attack, "--goal", "minimize", "--run", "near").code == 0
    answer = call("jacobian", "digits-plain", "--n", "20", "--attacks", "near", "--format", "json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["models"][0]["correlation"]
    assert found["run"] == "near"
    assert found["margin"] > 0.5, "the linearised margin ranks images on an ordinary network"
    assert "rank correlation" in call("jacobian", "digits-plain", "--n", "20", "--attacks", "near").out
    assert call(*attack, "--run", "first").code == 0
    for arguments, text in (
        (("digits-plain", "--n", "20", "--attacks", "first"), "--goal minimize"),
        (("digits-plain", "--n", "20", "--attacks", "near", "--norm", "linf"), "not in linf"),
        (("digits-l2nnn", "--n", "20", "--attacks", "near"), "did not attack digits-l2nnn"),
        (("digits-plain", "--n", "21", "--attacks", "near"), "--n 20 --seed 0"),
        (("digits-plain", "--n", "20", "--attacks", "nowhere"), "is not a run directory"),
    ):
        answer = call("jacobian", *arguments)
        assert (answer.code, answer.out) == (2, ""), answer.err
        assert text in answer.err


@pytest.mark.parametrize(
    ("arguments", "text"), [(("--norm", "l3"), "unknown norm 'l3'"), (("--format", "jsn"), "'json'")]
)
def test_names(call: Call, arguments: tuple[str, ...], text: str) -> None:
    answer = call("jacobian", "digits-plain", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert text in answer.err
