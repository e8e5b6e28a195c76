"""One limit of CPU seconds for each image, and what is said of the images that reach it."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

import robcert
from robcert.certificates import Search, certificates
from robcert.certificates.effort import Effort, TimeLimit
from robcert.certificates.trials import Trials, clean
from robcert.network import from_module
from robcert.policy.kinds import Subject
from robcert.runs.out_of_time import out_of_time, time_line
from robcert.types import LoadedModel, Threat

_DIGITS = ("digits-plain", "digits")


def linear() -> LoadedModel:
    torch.manual_seed(0)
    return from_module(nn.Linear(3, 2), (3,), 2)


def work(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


@pytest.mark.parametrize("batch", [1, 3])
def test_what_one_image_leaves_no_other_one_gets(batch: int) -> None:
    """Image 0 takes long at every radius, and ends with its own time; the others go on."""
    model, x = linear(), torch.rand(3, 3)
    tried = torch.zeros(3)

    def probe(rows: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        work(0.02 if 0 in rows else 0.0)
        tried[rows] += 1
        margin = torch.full((len(rows),), 1.0, dtype=torch.float64)
        return margin, margin

    y = model.module(x).argmax(1)
    limit = TimeLimit(3, 0.05)
    trials = Trials(model, x, "linf", clean(model, x, y), probe, batch, limit)
    trials.run(Search(eps=tuple(0.01 * k for k in range(1, 9)), largest=False))
    assert bool(limit.late[0]) == (batch == 1) and not bool(limit.late[1:].any())
    assert tried[1:].tolist() == [8, 8] and (tried[0] <= 3 if batch == 1 else tried[0] == 8)
    # What is done for three at once is charged to each in equal parts.
    assert float(limit.spent.sum()) == pytest.approx(0.02 * float(tried[0]), rel=0.5)


def test_the_ladder_has_one_limit_for_an_image() -> None:
    """Steps that were paid for are not paid again: with all of it spent before, nothing is tried."""
    model, x = linear(), torch.rand(4, 3)
    y = model.module(x).argmax(1)
    asked = Search(eps=(0.3,), largest=False, seconds=1.0, spent=torch.full((4,), 1.0).double())
    found = certificates.get("crown")(model, x, y, "linf", asked)
    assert found.effort is not None
    assert bool(found.effort.late.all()) and float(found.effort.seconds.sum()) == 0.0


def test_a_record_names_every_image_that_ran_out_and_a_line_the_first() -> None:
    model, data = robcert.load_model(_DIGITS[0]), robcert.load_dataset(_DIGITS[1], n=24)
    record = robcert.certify(model, data, Threat("linf", (0.02,)), "crown", time_per_image=0.0)
    right = [image.index for image in record.models[0].images if image.prediction == image.label]
    late = record.models[0].out_of_time
    assert [one.index for one in late] == right and len(right) > 8
    assert all((one.radius, one.failed, one.margin, one.distance) == (0.0, None, None, None) for one in late)
    line = time_line(late, 24)
    assert f"{len(right)} of 24" in line and line.count("certified to 0") == 8 and "--format json: all" in line
    assert time_line([], 24) == ""


def test_bounds_of_an_image_whose_search_ended() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 3))
    model, x = from_module(net, (20,), 3), torch.rand(8, 20)
    y = net(x).argmax(1)
    found = certificates.get("bab")(model, x, y, "linf", Search(eps=(0.15,), largest=False, seconds=0.2))
    assert found.effort is not None and found.examples is not None
    late, broken = found.effort.late, torch.isfinite(found.examples).all(1)
    assert bool(late.any())
    assert not bool((late & ((found.radius > 0.15) | broken)).any())
    assert bool((found.effort.failed[late] == 0.15 * (1 + 2.0**-40)).all())
    assert bool(torch.isfinite(found.effort.margin[late]).all()) and bool((found.effort.seconds[late] > 0.15).all())
    one = out_of_time(found, torch.arange(8))[0]
    assert "open at 0.15, margin above -" in time_line([one], 8)


def test_effort_of_a_later_method_on_some_images() -> None:
    one = torch.ones(3, dtype=torch.float64)
    first = Effort(one, one.bool(), 0.5 * one, -one)
    later = Effort(2 * one[:1], torch.zeros(1).bool(), 0.25 * one[:1], -0.5 * one[:1])
    both = first.put(torch.tensor([1]), later)
    assert both.seconds.tolist() == [1, 3, 1] and both.late.tolist() == [True, False, True]
    assert both.failed.tolist() == [0.5, 0.25, 0.5] and both.margin.tolist() == [-1, -0.5, -1]
    closed = both.put(torch.tensor([1]), Effort.none(1))
    assert torch.equal(closed.failed, both.failed) and torch.equal(closed.margin, both.margin)


def test_an_attack_and_a_policy_have_the_limit_too() -> None:
    model, data = robcert.load_model(_DIGITS[0]), robcert.load_dataset(_DIGITS[1], n=6)
    for seconds, most in ((0.0, 0), (None, 6)):
        record = robcert.attack(model, data, Threat("linf", (0.005,)), "pgd:2", certify="crown", time_per_image=seconds)
        certificate = record.models[0].certificate
        assert certificate is not None
        assert (certificate.correct == 0) == (most == 0) and bool(certificate.out_of_time) == (most == 0)
    for seconds, named in ((0.0, True), (60.0, False)):
        subject = Subject(model, data, sample=False, time_per_image=seconds)
        certified, note = subject.certified("crown", "linf", 0.005)
        assert bool(certified.any()) != named and note.startswith("the time was up for ") == named
