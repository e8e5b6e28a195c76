"""What the table of an attack says about images that nobody attacked."""

from __future__ import annotations

import io
import re
import sys

import pytest

import robcert
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.reports import renderer_of
from robcert.reports.console import plateau_text, render
from robcert.runs.record import RunRecord
from robcert.types import Threat


def attacked(eps: float, certify: str) -> tuple[RunRecord, str]:
    model, data = load_model("digits-l2nnn"), load_dataset("digits", n=30)
    threat = Threat("l2", (eps / 2, eps))
    record = robcert.attack(
        model, data, threat, "pgd:3", certify=certify, goal="minimize", options={"pgd": {"search_steps": 2}}
    )
    return record, " ".join(render(record).split())


def test_certified_images_are_not_told_as_failures_of_the_attack() -> None:
    record, text = attacked(0.02, "gap")
    (model,) = record.models
    spared = [image for image in model.images if image.distance is None]
    assert len(spared) > 15
    assert all((image.radius or 0) > 0.02 for image in spared)
    assert model.distance.median is None
    assert "median not attacked (certified)" in text
    assert "none found" not in text
    assert f"; {len(spared)} of 30 images not attacked (certified beyond eps 0.02)" in text


def test_without_certificates_nothing_of_the_kind_is_said() -> None:
    record, text = attacked(0.02, "none")
    assert "not attacked" not in text
    median = record.models[0].distance.median
    shown = "none found" if median is None else f"{median:.4g}"
    assert re.search(rf"median {re.escape(shown)}[,;]", text)


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of every row of the first table, by what its first says."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    return {first: rest for first, *rest in lines}


def test_a_model_with_more_legs_than_another() -> None:
    """The check without a budget adds a leg where it breaks something by the way."""
    models = [load_model(name) for name in ("digits-plain", "digits-at")]
    record = robcert.attack(
        models, load_dataset("digits", n=16), Threat("linf", (0.05,)), "fgsm:1 + pgd:5", certify="none"
    )
    one, other = record.models
    for first, second in ((one, other), (other, one)):
        legs = second.legs[:1]
        uneven = record.model_copy(update={"models": [first, second.model_copy(update={"legs": legs})]})
        rows = rows_of(render(uneven))
        assert rows["pgd:5"][1] == "-"
        assert rows["pgd:5"][0].startswith(f"{100 * int(str(first.legs[1].attacked_correct)) / 16:.1f}%")
        assert "-" not in rows["fgsm:1"]


def test_a_verdict_shows_the_legs_that_it_compared() -> None:
    plan = "pgd:2 + pgd:2x5 + pgd:20x5"
    record = robcert.attack(
        load_model("digits-plain"), load_dataset("digits", n=60), Threat("linf", (0.05,)), plan, certify="none"
    )
    (model,) = record.models
    assert model.plateau is not None
    assert model.plateau.restarts == 5
    verdict = model.plateau.model_copy(update={"verdict": "falling"})
    legs = [
        leg.model_copy(update={"attacked_correct": correct})
        for leg, correct in zip(model.legs, (54, 36, 30), strict=True)
    ]
    text = plateau_text(model.model_copy(update={"legs": legs}), verdict, record).plain
    assert text.startswith("still falling (60.0% -> 50.0%)")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80])
def test_a_terminal_is_not_overflown_by_names(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long names are shortened in the middle, at the width of the terminal; no number is lost."""
    long = f"experiments/{'a-very-long-folder/' * 5}resnet50_linf_8_255.safetensors"
    model, data = load_model("digits-l2nnn"), load_dataset("digits", n=6)
    records = [
        robcert.attack(model, data, Threat("l2", (0.3,)), "pgd:2"),
        robcert.certify(model, data, Threat("l2", (0.3,)), "gap"),
        robcert.norms(model),
    ]
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", Terminal())
    for record in records:
        models = [record.models[0].model_copy(update={"name": long}), *record.models]
        text = renderer_of(type(record), "console")(record.model_copy(update={"models": models}))
        assert max(map(len, text.splitlines())) <= width
        assert "experiments" in text
        assert long not in text
        assert "\N{HORIZONTAL ELLIPSIS}" not in text, "no cell is cut"
