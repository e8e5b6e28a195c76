"""`robcert compare`: ratios, calls, error curves below the uncertified share, and bad input."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import jsonschema
import pytest
import torch

from robcert.attacks import attacks
from robcert.errors import EvaluationError
from robcert.runs.compare import compare, line_record
from robcert.runs.lines import Line, calls
from robcert.runs.record import ImageRecord

from .conftest import Answer, Call

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"

ATTACK = ("--n", "20", "--threads", "1", "--goal", "minimize")


@pytest.fixture
def runs(call: Call) -> None:
    """``both``: two models, pgd. ``cw``: one of them, cw."""
    models = ("digits-plain", "digits-l2nnn")
    assert call("attack", *models, "--eps", "2", "--plan", "pgd:10", *ATTACK, "--run", "both").code == 0
    assert call("attack", models[0], "--eps", "2", "--plan", "cw:20", *ATTACK, "--run", "cw").code == 0


def refused(answer: Answer, code: int, *texts: str) -> None:
    assert (answer.code, answer.out) == (code, ""), answer.err
    for text in texts:
        assert text in answer.err


def check_table(call: Call) -> None:
    answer = call("compare", "both", "--format", "json", "--plot", "c.svg")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    jsonschema.validate(record, json.loads((SCHEMAS / "compare-1.json").read_text()))
    plain, nonexpansive = record["lines"]
    assert (plain["label"], nonexpansive["label"]) == ("digits-plain", "digits-l2nnn")
    assert plain["improvement"] == 1
    assert nonexpansive["improvement"] == pytest.approx(nonexpansive["median_distance"] / plain["median_distance"])
    norms = json.loads(call("jacobian", "digits-plain", "digits-l2nnn", "--n", "20", "--format", "json").out)
    one, other = (model["statistics"] for model in norms["models"])
    for name, ratio in nonexpansive["predicted"].items():
        for kind in ("mean", "max"):
            assert ratio[kind] == pytest.approx(one[name][kind] / other[name][kind], rel=1e-6)
    assert plain["median_calls"] > 0
    assert nonexpansive["rank_correlation"]["margin"] > 0.8
    shown = call("compare", "both").out
    for text in ("actual improvement", "predicted, mean ||grad loss||_2", "median calls", "rank correlation"):
        assert text in shown


def check_curves(tmp_path: Path) -> None:
    assert "<svg" in (tmp_path / "c.svg").read_text()
    found = compare([tmp_path / "both", tmp_path / "cw"], gradients=False)
    assert [line.label for line in found.lines] == ["digits-plain (pgd)", "digits-l2nnn", "digits-plain (cw)"]
    eps = torch.linspace(0, 2.5, 200, dtype=torch.float64)
    for line in found.lines:
        error, uncertified = line.error(eps), line.uncertified(eps)
        assert uncertified is not None
        assert bool((uncertified >= error).all()), "what is broken is not certified"
        assert bool((error.diff() >= 0).all())
        assert float(line.error(torch.tensor([line.median_distance], dtype=torch.float64))) >= 0.5
        assert line.limit is None, "nothing is certified beyond 2"
    assert float(found.lines[1].uncertified(eps)[10]) < 1, "the L2NNN is certified near its images"  # type: ignore[index]


def check_bad_input(call: Call, tmp_path: Path) -> None:
    attack = ("attack", "digits-plain", "--plan", "pgd:2", "--threads", "1")
    assert call(*attack, "--eps", "0.5", "--n", "20", "--run", "decided").code == 0
    assert call(*attack, *ATTACK[2:], "--eps", "0.5", "--n", "10", "--run", "few").code == 0
    assert call(*attack, *ATTACK, "--norm", "linf", "--eps", "0.1", "--run", "linf").code == 0
    refused(call("compare", "both", "decided"), 2, "--goal minimize")
    refused(call("compare", "both", "few"), 2, "other images", "n 10")
    refused(call("compare", "both", "linf"), 2, "linf")
    refused(call("compare", "nowhere"), 2, "no finished run")
    refused(call("compare", "both", "--plot", "c.xyz"), 2, "--plot")
    assert call("compare").code == 2
    (tmp_path / "cw" / "network-digits-plain.pt2").unlink()
    refused(call("compare", "cw"), 3, "--no-gradients")
    assert call("compare", "cw", "--no-gradients").code == 0
    path = tmp_path / "cw" / "record.json"
    record = json.loads(path.read_text())
    broken = next(image for image in record["models"][0]["images"] if image["distance"])
    broken["radius"] = 2 * broken["distance"]
    path.write_text(json.dumps(record))
    with pytest.raises(EvaluationError, match="inside a certified radius"):
        compare([tmp_path / "cw"], gradients=False)


@pytest.mark.usefixtures("runs")
def test_compare(call: Call, tmp_path: Path) -> None:
    """One pair of runs for all of it: the attacks cost more than the comparisons."""
    check_table(call)
    check_curves(tmp_path)
    check_bad_input(call, tmp_path)


def test_a_curve_ends_where_certified_images_were_not_attacked(call: Call, tmp_path: Path) -> None:
    arguments = ("attack", "digits-l2nnn", "--eps", "0.2", "--plan", "pgd:5", *ATTACK, "--run", "near")
    assert call(*arguments).code == 0
    (line,) = compare([tmp_path / "near"], gradients=False).lines
    assert line.limit == 0.2
    assert line.median_distance is None, "beyond the limit nothing is known"
    shown = call("compare", "near", "--no-gradients").out
    assert "certified beyond 0.2 were not attacked" in shown
    assert "not known" in shown


def test_median_and_calls() -> None:
    inf = math.inf
    line = Line("x", "r", "m", ("pgd",), torch.tensor([0.0, 0.3, 0.1, inf]).double(), None, inf, None)
    assert line.median == pytest.approx(0.1)
    record = line_record(line, line)
    assert record.error(torch.tensor([0.0, 0.1, 1.0]).double()).tolist() == [0.25, 0.5, 0.75]
    assert dataclasses.replace(line, limit=0.05).median == inf
    image = ImageRecord(
        index=0, label=0, status="broken", distance=0.1, radius=None, attack="pgd", iterations=9, iteration=7,
        restart=0, adversarial_label=1,
    )  # fmt: skip
    assert calls(image) == 14, "seven forwards and seven backwards"
    assert calls(image.model_copy(update={"attack": "boundary"})) == 7, "answers only"
    assert calls(image.model_copy(update={"attack": "gone"})) is None
    assert "gone" not in attacks
