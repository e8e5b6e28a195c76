"""A plan is a list of legs: ``attack:iterations[xrestarts]``; a bare ``iterations`` inherits the attack before it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from robcert.attacks import Attack, attacks
from robcert.errors import EvaluationError, UsageError, did_you_mean
from robcert.network.adapt import WithoutGradient, without_gradient
from robcert.types import LoadedModel, ThreatNorm

_LEG = re.compile(r"^(?:(?P<attack>[A-Za-z][\w.-]*):)?(?P<iterations>[\d.]+(?:e\d+)?[kKmM]?)(?:x(?P<restarts>\d+))?$")
_UNITS = {"k": 1_000, "m": 1_000_000}
_EXAMPLE = "Example: --plan cw:100,1k,10k,cw:1kx10,pgd:100x5, or by name: autoattack, strong, fast"


@dataclass(frozen=True)
class LegPlan:
    """One leg: the attack's name, its iterations (of one search step), its restarts."""

    attack: str
    iterations: int
    restarts: int = 1

    def __str__(self) -> str:
        times = f"x{self.restarts}" if self.restarts > 1 else ""
        return f"{self.attack}:{short(self.iterations)}{times}"


def short(count: int) -> str:
    """Return 1000 as 1k, 1000000 as 1M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


NAMED: dict[str, dict[ThreatNorm, str]] = {
    "autoattack": {
        "l2": "apgd:100 + apgd-t:100x9 + fab-original:100x9 + square:5k",
        "linf": "apgd:100 + apgd-t:100x9 + fab-original:100x9 + square:5k",
        "l1": "apgd:100x5 + apgd-t:100x5 + fab-original:100x9",
    },
    "strong": {
        "l2": "pgd:20 + apgd-t:40x3 + fmn:100 + fab:60x5 + ddn:200 + pgd:50x4 + square:5kx2",
        "linf": "pgd:20 + apgd-t:40x9 + fab:40x3 + apgd:100x4 + square:5kx2",
        "l1": "pgd:20 + apgd-t:40x9 + pdpgd:100 + fab:20x9",
    },
    "fast": {
        "l2": "pgd:10 + apgd-t:20x3",
        "linf": "pgd:10 + apgd-t:20x3",
        "l1": "pgd:20 + apgd-t:30x3",
    },
}
"""Plans by name. autoattack: the standard version of Croce & Hein 2020 with its budgets (in l1 those of their code
since 2021: five starts of apgd and five targets; its square attack in l1 is not among ours). strong: at most half of
its backwards, and more families: fab, fmn and ddn for models whose gradients say little at the clean image; square,
which takes no backward, and in linf several starts of apgd for those where they mislead. fast: what continuous
integration has a minute for."""


def default_attack(norm: ThreatNorm) -> str:
    """Return the attack that is taken where none is named."""
    return "cw" if norm in attacks.get("cw").norms else "pgd"


def default_plan(norm: ThreatNorm) -> list[LegPlan]:
    """Return the sweep of paper A as far as it is cheap, and restarts of another attack beside it."""
    return parse_plan(f"{default_attack(norm)}:100,1k + pgd:100x5")


_GRADIENT_FREE: dict[ThreatNorm, str] = {
    "l2": "noise:100 + square:100,1k + boundary:1k",
    "linf": "noise:100 + square:100,1k",
}


def plan_without_gradient(norm: ThreatNorm) -> str:
    """Return what a network without a gradient is attacked with where no plan is named."""
    return _GRADIENT_FREE.get(norm, "noise:100,1k")


def plan_for(
    models: Sequence[LoadedModel], plan: list[LegPlan] | None, norm: ThreatNorm
) -> tuple[list[LegPlan], list[str]]:
    """Return the legs of a run over some networks, and notes on them.

    Args:
        models: the networks.
        plan: the legs that were named; None: none were.
        norm: of the threat.

    Raises:
        EvaluationError: a leg needs a gradient that a network does not have.
    """
    lacking = [model for model in models if model.no_gradient]
    free = parse_plan(plan_without_gradient(norm))
    if plan is None:
        if lacking and len(lacking) < len(models):
            names = " and ".join(model.name for model in lacking)
            raise EvaluationError(
                f"{names}: no gradient ({lacking[0].no_gradient}), while the others have one, and no plan was named",
                f"Attack {names} in a run apart, or give a plan for all: --plan {_written(free)}",
            )
        plan = free if lacking else default_plan(norm)
    asking = [leg for leg in plan if attacks.get(leg.attack).cost.backwards]
    for model in lacking:
        if asking and isinstance(model.module, WithoutGradient):
            refused = without_gradient(model.name, model.no_gradient, _written(free))
            raise EvaluationError(f"{refused.found}; {asking[0]} needs one", refused.do)
    how = "all the same, though it may have nothing to follow" if asking else "without"
    return plan, [
        f"{model.name} has no gradient: {model.no_gradient}. It is attacked {how}: {_written(plan)}"
        for model in lacking
    ]


def _written(plan: Sequence[LegPlan]) -> str:
    return ",".join(map(str, plan))


def parse_count(text: str) -> int:
    """Return 100, 1k, 10K, 1M or 1e6 as a positive whole number.

    Raises:
        UsageError: it is none.
    """
    unit = _UNITS.get(text[-1:].lower(), 1)
    try:
        value = float(text[:-1] if unit > 1 else text) * unit
    except ValueError:
        value = 0.0
    if not (1 <= value <= 1e12) or value != int(value):
        raise UsageError(f"{text!r} is not a number of iterations", "Write whole numbers such as 100, 1k, 10k or 1M")
    return int(value)


def parse_plan(text: str, norm: ThreatNorm = "l2") -> list[LegPlan]:
    """Return the legs of a text (separated by commas, plus signs or spaces), or of a named plan (`NAMED`) in the norm.

    Raises:
        UsageError: a leg that cannot be read, an unknown attack, a first leg without one, or a plan of other norms.
    """
    if named := NAMED.get(text.strip()):
        if norm not in named:
            raise UsageError(f"the plan {text.strip()!r} is for {', '.join(named)}, not for {norm}", _EXAMPLE)
        return parse_plan(named[norm])
    plan: list[LegPlan] = []
    for token in filter(None, re.split(r"[,+\s]+", text)):
        match = _LEG.match(token)
        name = (match and match["attack"]) or (plan[-1].attack if plan else None)
        if match is None or name is None:
            raise UsageError(f"{token!r} in the plan is not attack:iterations[xrestarts]", _EXAMPLE)
        attacks.get(name)
        restarts = int(match["restarts"] or 1)
        if restarts < 1:
            raise UsageError(f"{token!r} in the plan has no restart to run", _EXAMPLE)
        plan.append(LegPlan(name, parse_count(match["iterations"]), restarts))
    if not plan:
        raise UsageError("the plan is empty", _EXAMPLE)
    return plan


def sweep(attack: str, iterations: list[int], restarts: int = 1) -> list[LegPlan]:
    """Return the legs of one attack at rising iterations.

    Raises:
        UsageError: the iterations do not rise.
    """
    if any(later <= earlier for earlier, later in itertools.pairwise(iterations)):
        given = ",".join(short(count) for count in iterations)
        ordered = ",".join(short(count) for count in sorted(set(iterations)))
        raise UsageError(
            f"--iterations {given} is out of order: a leg attacks what the shorter ones before it left open",
            f"Write --iterations {ordered}",
        )
    if restarts < 1:
        raise UsageError(f"--restarts is {restarts}, but an attack runs at least once")
    attacks.get(attack)
    return [LegPlan(attack, count, restarts) for count in iterations]


def chosen_plan(
    norm: ThreatNorm, plan: str | None, attack: str | None, iterations: str | None, restarts: int
) -> list[LegPlan] | None:
    """Return the legs that options name: ``plan``, or else one attack at rising iterations; None where they name none.

    Raises:
        UsageError: a text is no plan and no list of iterations, or an attack is unknown.
    """
    if plan is not None:
        return parse_plan(plan, norm)
    if attack is None and iterations is None and restarts == 1:
        return None
    return sweep(
        attack or default_attack(norm), [parse_count(part) for part in (iterations or "100,1k").split(",")], restarts
    )


def is_single_step(attack: str) -> bool:
    """Return whether an attack has the same steps however many iterations are asked for."""
    return bool(getattr(attacks.get(attack), "single_step", False))


def swept(legs: Sequence[LegPlan]) -> bool:
    """Return whether a leg has ten times the iterations of one before it, so that there is a sweep to judge."""
    return any(
        (a.attack, a.restarts) == (b.attack, b.restarts) and b.iterations >= 10 * a.iterations
        for a, b in itertools.combinations(legs, 2)
    )


def build(leg: LegPlan, norm: ThreatNorm, options: dict[str, dict[str, Any]]) -> Attack:
    """Return the attack of a leg, with the options that the user set for it.

    Args:
        leg: which attack and how many iterations.
        norm: the norm that it must support.
        options: by attack name, option names to values (texts are converted to the type of the option).

    Raises:
        UsageError: the attack does not support the norm, or has no such option, or not with such a value.
    """
    kind = attacks.get(leg.attack)
    if norm not in kind.norms:
        able = [name for name, other in attacks.items() if norm in other.norms]
        raise UsageError(
            f"the attack {leg.attack!r} works in {', '.join(sorted(kind.norms))}, not in {norm}",
            f"For {norm} there are: {', '.join(able)}",
        )
    known = {f.name for f in fields(kind)} - {"iterations"}  # type: ignore[arg-type]
    given = options.get(leg.attack, {})
    for name in given:
        if name not in known:
            raise UsageError(f"the attack {leg.attack!r} has no option {name!r}", did_you_mean(name, known))
    try:
        return TypeAdapter(kind).validate_python({"iterations": leg.iterations, **given})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UsageError(f"{leg.attack}.{where} is {problem['input']!r}: {problem['msg'].lower()}") from None
