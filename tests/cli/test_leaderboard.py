"""`robcert leaderboard`: models x threats, from what runs stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import robcert
from robcert.errors import EvaluationError

from .conftest import Call

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "leaderboard-1.json"
MODELS = ("digits-plain", "digits-at")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two attacks on two models, one of them weak, certificates of one, and an attack in another norm."""
    at = tmp_path_factory.mktemp("runs")
    models, data = [robcert.load_model(name) for name in MODELS], robcert.load_dataset("digits", n=20)
    threat = robcert.Threat("linf", (0.02, 0.1))
    for name, plan in (("weak", "fgsm:1"), ("strong", "pgd:10")):
        robcert.attack(models, data, threat, plan, certify="none", goal="minimize", run=at / name)
    robcert.certify(models[1], data, robcert.Threat("linf", (0.02,)), "ibp", run=at / "proofs")
    robcert.attack(models[0], data, robcert.Threat("l2", (0.5,)), "pgd:5", certify="none", run=at / "l2")
    return at


def board(call: Call, *runs: object) -> dict[str, Any]:
    answer = call("leaderboard", *runs, "--format", "json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    return record


def counts(record: dict[str, Any], model: str) -> list[tuple[int | None, int | None]]:
    (entry,) = (entry for entry in record["boards"][0]["models"] if entry["model"] == model)
    return [(at["attacked"], at["certified"]) for at in entry["standing"]]


def test_runs_of_one_model_are_taken_together(call: Call, stored: Path) -> None:
    weak, strong = (board(call, stored / name) for name in ("weak", "strong"))
    both = board(call, stored / "weak", stored / "strong", stored / "proofs")
    for name in MODELS:
        together = counts(both, name)
        for one in (weak, strong):
            for (fewer, _), (more, _) in zip(together, counts(one, name), strict=True):
                assert fewer is not None and more is not None and fewer <= more
    proofs = json.loads((stored / "proofs" / "record.json").read_text())["models"]
    (_, most), (_, unknown) = counts(both, "digits-at")
    assert most is not None and most >= max(model["certified_correct"][0] for model in proofs)
    assert unknown is None, "nothing was certified at 0.1"
    assert counts(both, "digits-plain")[0][1] is None
    entry = next(one for one in both["boards"][0]["models"] if one["model"] == "digits-at")
    assert [Path(run).name for run in entry["runs"]] == ["weak", "strong", "proofs"]


def test_the_order_and_the_tables(call: Call, stored: Path) -> None:
    record = board(call, stored / "strong", stored / "l2")
    assert [one["threat"]["norm"] for one in record["boards"]] == ["linf", "l2"]
    attacked = [one["standing"][-1]["attacked"] for one in record["boards"][0]["models"]]
    assert attacked == sorted(attacked, reverse=True)
    assert record["boards"][0]["models"][0]["model"] == "digits-at"
    runs = stored / "strong", stored / "proofs", stored / "l2"
    for form in ("console", "markdown", "html"):
        answer = call("leaderboard", *runs, "--format", form, "--output", f"board.{form}")
        assert (answer.code, answer.out) == (0, ""), answer.err
    console = Path("board.console").read_text()
    assert "linf, digits test, n 20" in console and "eps 0.02" in console and "? to" in console
    assert "| digits-at |" in Path("board.markdown").read_text()
    assert "<table" in Path("board.html").read_text()


def test_rows(stored: Path) -> None:
    rows = robcert.leaderboard([stored / "strong", stored / "l2"]).rows()
    assert [(row["model"], row["norm"], row["eps"]) for row in rows][-1] == ("digits-plain", "l2", 0.5)
    assert len({tuple(row) for row in rows}) == 1


def test_what_is_refused(call: Call, stored: Path, tmp_path: Path) -> None:
    for arguments, code, text in (
        ((tmp_path / "nowhere",), 2, "holds no finished run"),
        ((stored / "weak", "--sort", "certifed"), 2, "Did you mean 'certified'"),
        ((stored / "weak", "--format", "jsn"), 2, "Did you mean 'json'"),
    ):
        answer = call("leaderboard", *arguments)
        assert (answer.code, text in answer.err) == (code, True), answer.err
    shutil.copytree(stored / "proofs", tmp_path / "wrong")
    record = json.loads((tmp_path / "wrong" / "record.json").read_text())
    record["threat"]["eps"] = [0.1]
    for image in record["models"][0]["images"]:
        image["radius"] = 1.0
    (tmp_path / "wrong" / "record.json").write_text(json.dumps(record))
    with pytest.raises(EvaluationError, match=r"is broken in .*strong and certified in .*wrong, both at eps 0.1"):
        robcert.leaderboard([stored / "strong", tmp_path / "wrong"])
