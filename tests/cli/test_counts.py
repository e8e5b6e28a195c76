"""Every count says what it counts and out of what; no distance leads out of the box."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn
from toys import toy

import robcert
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.reports.console import render
from robcert.reports.progress import ConsoleReporter
from robcert.runs.records.jacobian import farthest
from robcert.runs.stop_condition import StopCondition
from robcert.runs.summary import as_list
from robcert.types import BOUND_NORMS, BoundNorm, Dataset, Threat

from .conftest import Call


def ends_at(look: int) -> StopCondition:
    """Ends a run at the given look."""
    seen = 0

    def enough(_: object) -> str | None:
        nonlocal seen
        seen += 1
        return "the time is up" if seen > look else None

    return enough


@pytest.mark.parametrize("eps", [(0.05,), (0.03, 0.06)])
def test_a_leg_that_was_ended_early_says_how_far_it_came(eps: tuple[float, ...]) -> None:
    text = io.StringIO()
    with ConsoleReporter(Console(file=text, width=200)) as reporter:
        record = robcert.attack(
            load_model("digits-at"), load_dataset("digits", n=40), Threat("linf", eps), "apgd:10x2 + fab:10",
            certify="none", enough=ends_at(9), reporter=reporter, batch_size=8, search_precision="float32",
            cpu_threads=1,
        )  # fmt: skip
    (leg,) = record.models[0].legs
    assert leg.stopped
    assert leg.finished is not None
    assert leg.finished < leg.entered
    told = f"ended early: {leg.finished} of {leg.entered} images were attacked to the end"
    assert told in text.getvalue()
    assert "apgd:10x2 (ended early)" in render(record)
    broke = "/".join(str(count) for count in as_list(leg.newly_broken))
    opened = leg.entered if leg.open is None else leg.open
    assert f"broke {broke} of {'/'.join(map(str, as_list(opened)))} open images" in text.getvalue()


def test_examples_of_a_certificate_are_no_work_of_an_attack() -> None:
    """Branch and bound finds some before the first leg: they have a row of their own."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
    x = torch.rand(16, 4)
    with torch.no_grad():
        net[3].bias -= net(x).mean(dim=0)  # type: ignore[operator]
    y = net(x).argmax(dim=1)
    assert len(y.unique()) > 1
    model, data = toy(net, (4,), 3), Dataset("toy", "test", x, y, torch.arange(16), ("a", "b", "c"))
    record = robcert.attack(model, data, Threat("linf", (0.05, 0.2)), "fgsm:1", certify="bab", cpu_threads=1)
    (one,) = record.models
    assert one.certificate is not None
    broken = as_list(one.certificate.broken or 0)
    assert broken[1] > 0
    (leg,) = one.legs
    for k, newly in enumerate(as_list(leg.newly_broken)):
        assert as_list(leg.attacked_correct)[k] + newly + broken[k] == one.natural_correct
    rows = re.findall(r"Examples of bab[^\d]*([\d.]+)%", render(record))
    assert [float(share) for share in rows] == [round(100 * (16 - count) / 16, 1) for count in broken]
    none = robcert.attack(model, data, Threat("linf", (0.2,)), "fgsm:1", certify="none", cpu_threads=1)
    assert "Examples of" not in render(none)


def test_what_is_certified_is_counted_at_eps_and_a_median_of_budgets_is_none(call: Call) -> None:
    asked = ("certify", "digits-at", "--norm", "linf", "--n", "12", "--eps", "0.005,0.02", "--method")
    record = json.loads(call(*asked, "ibp,gap", "--format", "json").out)
    for model, kind in zip(record["models"], ("at eps", "largest"), strict=True):
        assert model["radii"] == kind
        assert [sum(by.values()) for by in model["certified_by"]] == model["certified_correct"]
    shown = " ".join(call(*asked, "ibp").out.split())
    assert "median" not in shown
    assert "tested at eps only" in shown
    for eps, count in zip(("0.005", "0.02"), record["models"][0]["certified_correct"], strict=True):
        assert f"certified at eps {eps}: {count} of 12 images" in shown
    largest = " ".join(call(*asked, "ibp", "--goal", "radius").out.split())
    assert "radius over all 12 images (0 where none is proven): median" in largest


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_no_estimated_distance_leads_out_of_the_box(norm: BoundNorm, call: Call) -> None:
    answer = call("jacobian", "digits-plain", "--n", "16", "--norm", norm, "--format", "json")
    record = json.loads(answer.out)["models"][0]
    widest = {"l2": 8.0, "linf": 1.0, "l1": 64.0}[norm]
    for kind in ("loss", "margin"):
        known = [image[f"distance_by_{kind}"] for image in record["images"]]
        assert all(value is None or 0 <= value <= widest for value in known)
        median = record[f"median_distance_by_{kind}"]
        assert median is None or median <= widest
    assert any(image["distance_by_loss"] is None for image in record["images"])
    shown = " ".join(call("jacobian", "digits-plain", "--n", "16", "--norm", norm).out.split())
    far = "beyond the box" if record["median_distance_by_loss"] is None else f"{record['median_distance_by_loss']:.4g}"
    assert f"median estimated {norm} distance over all 16 images: {far} (loss" in shown


def test_the_farthest_corner() -> None:
    x = torch.tensor([[0.0, 0.0], [0.5, 1.5]])
    assert farthest(x, "l1", (-1.0, 2.0)).tolist() == [4.0, 4.0]
    assert farthest(x, "linf", (-1.0, 2.0)).tolist() == [2.0, 2.5]
    assert farthest(x, "l2", (-1.0, 2.0)).tolist() == pytest.approx([math.sqrt(8), math.sqrt(1.5**2 + 2.5**2)])


def test_the_median_of_distances_says_over_what() -> None:
    data = load_dataset("digits", n=12)
    record = robcert.attack(
        replace(load_model("digits-plain"), name="plain"), data, Threat("l2", (0.3,)), "fmn:10", goal="minimize",
        certify="none",
    )  # fmt: skip
    assert "adversarial distance of all 12 images (0 where wrong): median" in " ".join(render(record).split())
