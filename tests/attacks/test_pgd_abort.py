"""A search step of pgd that cannot arrive any more is given up, and no other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toys import WIDE, broken, exact_distance, random_linear, run_leg, toy

from robcert.data import load_dataset
from robcert.network import load_model
from robcert.types import Threat


@pytest.mark.parametrize("objective", ["alternate", "margin"])
def test_what_cannot_arrive_is_given_up_and_nothing_else(objective: str) -> None:
    """On a linear classifier images inside the budget fall, and those far outside cost less."""
    net, x, y = random_linear(64, 10, seed=3, n=60)
    model, exact = toy(net, (64,), 10, WIDE), exact_distance(net, x, y, "l2")
    eps = float(exact.median()) * 1.0001
    spent: dict[bool, int] = {}
    for abort in (True, False):
        options: dict[str, Any] = {"objective": objective, "abort_early": abort, "random_start": False}
        found, leg = run_leg(model, x, y, Threat("l2", (eps,), WIDE), "pgd", iterations=100, **options)
        assert broken(found, eps) == (exact < eps).tolist()
        spent[abort] = leg.spent.backwards
    assert spent[True] < 0.9 * spent[False]


@pytest.mark.parametrize("iterations", [10, 20])
def test_a_short_attack_lets_go_early_too(iterations: int) -> None:
    """What falls leaves at once, what holds is given up half way, and next to nothing is lost by that."""
    model, data = load_model("digits-plain"), load_dataset("digits", n=200)
    with torch.no_grad():
        y = model.module(data.x).argmax(1)
    fell: dict[bool, int] = {}
    spent: dict[bool, int] = {}
    for abort in (True, False):
        found, leg = run_leg(
            model, data.x, y, Threat("linf", (0.08,)), "pgd", restarts=2, iterations=iterations, abort_early=abort
        )
        fell[abort], spent[abort] = sum(broken(found, 0.08)), leg.spent.backwards
    assert spent[True] < 0.9 * spent[False]
    assert spent[False] < 0.95 * 200 * 2 * iterations, "images that fall leave before the end"
    assert fell[True] >= fell[False] - 3 and fell[False] > 50


def test_zoo_images_fall_whether_or_not_hopeless_ones_are_given_up() -> None:
    model, data = load_model("digits-at"), load_dataset("digits", n=100)
    with torch.no_grad():
        y = model.module(data.x).argmax(1)
    verdicts = [
        broken(run_leg(model, data.x, y, Threat("linf", (0.12,)), "pgd", restarts=3, abort_early=abort)[0], 0.12)
        for abort in (True, False)
    ]
    assert verdicts[0] == verdicts[1]
    assert 0 < sum(verdicts[0]) < 100
