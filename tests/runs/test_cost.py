"""A sweep pays for open images only, and for each of them up to its decision."""

from __future__ import annotations

import pytest

from robcert import attack
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.types import Threat

SEARCH_STEPS = 2


def check(name: str, counts: tuple[int, ...], n: int) -> None:
    plan = "cw:" + ",".join(str(count) for count in counts)
    options = {"cw": {"search_steps": SEARCH_STEPS, "abort_early": False}}
    run = attack(load_model(name), load_dataset("digits", n=n), Threat("l2", (0.5,)), plan, options=options)
    record = run.models[0]
    assert [leg.iterations for leg in record.legs] == list(counts)
    assert 0 < record.legs[-1].entered < record.legs[0].entered
    fair = 0
    for leg in record.legs:
        decided = [i for i in record.images if i.status == "broken" and i.iterations == leg.iterations]
        assert all(image.iteration is not None for image in decided)
        fair += sum(image.iteration or 0 for image in decided)
        fair += (leg.entered - len(decided)) * leg.iterations * SEARCH_STEPS
    spent = sum(leg.backwards for leg in record.legs)
    assert fair <= spent <= 1.05 * fair


def test_a_sweep_costs_what_its_open_images_cost() -> None:
    check("digits-at", (100, 300), n=40)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-plain", "digits-at", "digits-l2nnn"])
def test_a_whole_sweep_costs_what_its_open_images_cost(name: str) -> None:
    check(name, (100, 1_000, 10_000), n=100)
