"""The registry of attacks, and what every registered attack must declare."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from robcert.attacks import attacks
from robcert.errors import UsageError
from robcert.registry import Registry
from robcert.runs.plan import LegPlan, build
from robcert.threats import threats
from robcert.types import BOUND_NORMS, ThreatNorm


def test_the_first_three_are_there() -> None:
    assert {"cw", "fgsm", "pgd"} <= set(attacks.names())
    assert attacks.get("pgd").norms == {"l2", "linf", "l1"}
    assert {"l2", "linf"} <= attacks.get("cw").norms


@pytest.mark.parametrize("name", attacks.names())
def test_what_every_attack_declares(name: str) -> None:
    kind = attacks.get(name)
    assert is_dataclass(kind)
    assert kind.norms <= set(threats.names())
    assert kind.norms
    assert kind.paper
    assert kind.__doc__
    assert "iterations" in {f.name for f in fields(kind)}
    for iterations in (1, 7, 10, 97, 100, 1000, 1_000_000):
        built = kind(iterations=iterations)
        assert 1 <= built.period <= 10
        assert built.iterations % built.period == 0, "a stage ends where phase looks"


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="unknown attack 'pgdd'") as caught:
        attacks.get("pgdd")
    assert "'pgd'" in caught.value.do
    with pytest.raises(UsageError, match="unknown attack 'q'") as caught:
        attacks.get("q")
    assert "Known: " in caught.value.do


def test_a_name_is_taken_once() -> None:
    registry: Registry[object] = Registry("thing", "robcert.attacks")
    registry.register("a")(1)
    registry.register("a")(1)
    with pytest.raises(ValueError, match="two things"):
        registry.register("a")(2)


@pytest.mark.parametrize(
    ("attack", "norm", "options", "message"),
    [
        ("pgd", "l2", {"stepsize": 1}, "no option 'stepsize'"),
        ("pgd", "l2", {"step_size": "fast"}, "pgd.step_size"),
        ("pgd", "l2", {"step_size": -1.0}, "positive"),
        ("pgd", "l2", {"step_size": float("nan")}, "positive"),
        ("cw", "l2", {"search_steps": 0}, "at least one"),
        ("cw", "l2", {"abort_early": "perhaps"}, "cw.abort_early"),
        ("cw", "l2", {"learning_rate": 0.0}, "positive"),
        ("cw", "l2", {"initial_c": -1.0}, "positive"),
    ],
)
def test_bad_options(attack: str, norm: ThreatNorm, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(LegPlan(attack, 10), norm, {attack: options})
    assert message in str(caught.value)


def test_a_norm_that_an_attack_does_not_support_names_those_that_do() -> None:
    unable = [(name, norm) for name, kind in attacks.items() for norm in BOUND_NORMS if norm not in kind.norms]
    for name, norm in unable:
        with pytest.raises(UsageError, match=f"not in {norm}") as caught:
            build(LegPlan(name, 10), norm, {})
        assert "pgd" in caught.value.do


def test_options_are_converted_from_text() -> None:
    built = build(
        LegPlan("cw", 10), "l2", {"cw": {"abort_early": "false", "search_steps": "3"}, "pgd": {"step_size": 1}}
    )
    assert (built.iterations, built.abort_early, built.search_steps) == (10, False, 3)  # type: ignore[attr-defined]


def test_the_table_of_the_docs_is_the_registry() -> None:
    page = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text().split("## Plans")[0]
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    told = {cells[0].strip().strip("`"): (cells[1].strip(), cells[2].strip()) for cells in rows}
    known: dict[str, tuple[str, str]] = {}
    for name, kind in attacks.items():
        counts = ((kind.cost.forwards, "forward"), (kind.cost.backwards, "backward"))
        cost = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
        known[name] = (", ".join(norm for norm in BOUND_NORMS if norm in kind.norms), cost)
    assert told == known
    for name in known:
        assert f"## {name.removesuffix('-t')}\n" in (Path(__file__).parents[2] / "docs" / "attacks.md").read_text()
