"""Options out of range are refused by name: an attack that runs with them finds nothing, and looks like robustness."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from toys import REGISTERED, WIDE, random_linear, run_leg, toy

from robcert.attacks import attacks
from robcert.attacks.fmn import FMN
from robcert.attacks.losses import losses
from robcert.cli.main import run
from robcert.errors import UsageError
from robcert.runs.plan import LegPlan, build
from robcert.types import Threat

FLOATS = [(name, f.name) for name, kind in attacks.items() for f in fields(kind) if "float" in str(f.type)]  # type: ignore[arg-type]
COUNTS = [
    (name, f.name)
    for name, kind in attacks.items()
    for f in fields(kind)  # type: ignore[arg-type]
    if f.type == "int" and f.name != "iterations"
]


def built(name: str, options: dict[str, Any]) -> object:
    return build(LegPlan(name, 10), dict(REGISTERED)[name], {name: options})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "nan", "-inf"])
@pytest.mark.parametrize(("name", "option"), FLOATS)
def test_numbers(name: str, option: str, value: float | str) -> None:
    with pytest.raises(UsageError, match=rf"is {str(value).removesuffix('.0')}, but ") as caught:
        built(name, {option: value})
    assert option in caught.value.found or option == "step_size"


@pytest.mark.parametrize(("name", "option"), COUNTS)
def test_counts(name: str, option: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}.{option} is 0, but it is a count, and at least one is needed"):
        built(name, {option: 0})


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("ddn", "gamma", 3),
        ("ddn", "gamma", 1),
        ("fmn", "gamma", 0),
        ("fmn", "step_size", 0),
        ("fab", "alpha_max", 1.1),
        ("fab", "beta", 0),
        ("fab", "beta", 1.1),
        ("fab", "eta", 0.9),
        ("alma", "step_size", 0),
        ("pgd", "tolerance", 1),
        ("square", "share", 0),
        ("square", "share", 1.1),
    ],
)
def test_the_ends_of_ranges(name: str, option: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name}.{option} is {value:g}, but"):
        built(name, {option: value})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cw", {"confidence": 0}),
        ("fab", {"alpha_max": 0, "eta": 1, "beta": 1}),
        ("apgd", {"tolerance": 0, "search_steps": 1}),
        ("superdeepfool", {"overshoot": 0, "classes": 1}),
        ("square", {"share": 1}),
    ],
)
def test_the_ends_that_mean_something(name: str, options: dict[str, Any]) -> None:
    built(name, options)


def test_a_class_without_a_name_says_its_own() -> None:
    class Mine(FMN):
        pass

    with pytest.raises(UsageError, match=r"Mine.step_size is -1"):
        Mine(step_size=-1)


def test_the_command_line_says_it_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["attack", "digits-plain", "--norm", "l2", "--eps", "1", "--attack", "fmn", "-o", "fmn.step_size=nan"])
    said = capsys.readouterr()
    assert (caught.value.code, said.out) == (2, "")
    assert said.err == "robcert: error: fmn.step_size is nan, but it is a positive number\n"


@pytest.mark.parametrize("objective", losses.names())
@pytest.mark.parametrize("name", ["pgd-t", "apgd-t"])
def test_every_objective_has_a_targeted_form(name: str, objective: str) -> None:
    net, x, y = random_linear(64, 4, seed=3, n=8)
    threat = Threat("l2", (10.0,), WIDE)
    found, _ = run_leg(toy(net, (64,), 4, WIDE), x, y, threat, name, iterations=20, objective=objective)
    assert bool(torch.isfinite(found.distance).all())
