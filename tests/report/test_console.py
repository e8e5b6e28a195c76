"""What the table of an attack says about images that nobody attacked."""

from __future__ import annotations

import re

import robcert
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.report.console import render
from robcert.runs.record import RunRecord
from robcert.types import Threat


def attacked(eps: float, certify: str) -> tuple[RunRecord, str]:
    model, data = load_model("digits-l2nnn"), load_dataset("digits", n=30)
    threat = Threat("l2", (eps / 2, eps))
    record = robcert.attack(
        model, data, threat, "pgd:3", certify=certify, goal="minimize", options={"pgd.search_steps": 2}
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
