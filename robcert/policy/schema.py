"""Contents of a policy. An unknown key, a wrong type or a number out of range is an error.

Plans, and what a certificate is, can only be checked with torch, which takes seconds to import: with `SHALLOW` as the
context of the validation everything else is.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from robcert.errors import RobcertError, UsageError, did_you_mean
from robcert.registry import written_names
from robcert.search.plateau import FLAT
from robcert.threats import threats
from robcert.types import BOUND_NORMS, ThreatNorm, budget

if TYPE_CHECKING:
    from robcert.runs.plan import LegPlan

SHALLOW = "shallow"
"""Context of a validation without torch, which leaves out plans."""
ATTACKS = frozenset({"plan", "certify", "options", "require_converged", "flat"})
"""Keys that a requirement answered by attacks may have."""
CONFIDENCE = 0.95
"""Of a requirement that names none."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(value: Any) -> float:
    """Seconds from "90s", "10m", "2h" or a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found = float(value)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*", str(value))
        if match is None:
            raise ValueError(f'{value!r} is no duration: write "90s", "10m" or "2h"')
        found = float(match[1]) * _UNITS[match[2]]
    if not (math.isfinite(found) and found > 0):
        raise ValueError(f"{value!r} is no duration: it has to be positive")
    return found


def duration(value: float) -> str:
    """Return seconds as `seconds` reads them: the largest unit of which they are a whole number."""
    unit = next(unit for unit in ("h", "m", "s") if value % _UNITS[unit] == 0 or unit == "s")
    return f"{value / _UNITS[unit]:g}{unit}"


def strict(value: Any) -> float:
    """A number, and no text that looks like one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")
    return float(value)


Number = Annotated[float, BeforeValidator(strict)]


class Table(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelEntry(Table):
    """A model: a name of the zoo or a file, with what a file without a card does not say."""

    path: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)
    arch: str | None = None
    weights_key: str | None = Field(default=None, min_length=1)
    input_shape: tuple[int, ...] | None = None
    classes: int | None = Field(default=None, ge=2)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    box: tuple[float, float] | None = None
    random_weights: bool = False


class Requirement(Table):
    """One thing that has to hold. ``kind`` and ``limit`` are the key and the value of ``[[gate.require]]``."""

    kind: str
    limit: Number
    name: str = Field(min_length=1)
    norm: ThreatNorm | None = None
    eps: Annotated[float, BeforeValidator(budget)] | None = None
    plan: str | None = None
    certify: str = "gap"
    options: dict[str, dict[str, str | int | float | bool]] = Field(default_factory=dict)
    confidence: Number = Field(default=CONFIDENCE, gt=0.5, lt=1)
    require_converged: bool = Field(default=False, strict=True)
    flat: Number = Field(default=FLAT, ge=0, le=1)
    false_positive_rate: Number = Field(default=0.05, gt=0, lt=1)
    statistic: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _kind_of(cls, given: Any) -> Any:
        from robcert.policy.kinds import kinds

        if not isinstance(given, dict) or "kind" in given:
            return given
        asked = [key for key in given if key in kinds]
        unknown = [key for key in given if key not in kinds and key not in cls.model_fields]
        if unknown:
            raise ValueError(
                f"unknown key {unknown[0]!r}\n{did_you_mean(unknown[0], [*keys(), *kinds.names()])}",
            )
        if len(asked) != 1:
            found = "nothing" if not asked else " and ".join(asked)
            raise ValueError(
                f"a requirement asks for one thing, this one for {found}\nOne of: {', '.join(kinds.names())}"
            )
        rest = {key: value for key, value in given.items() if key != asked[0]}
        return {**rest, "kind": asked[0], "limit": given[asked[0]], "name": given.get("name", asked[0])}

    @field_validator("norm", mode="before")
    @classmethod
    def _known_norm(cls, norm: Any, info: ValidationInfo) -> Any:
        if norm in BOUND_NORMS:
            return norm
        known = written_names(threats.package, "threat") if info.context == SHALLOW else threats.names()
        if norm not in known:
            raise ValueError(f"unknown norm {norm!r}\n{did_you_mean(str(norm), known)}")
        return norm

    @field_validator("certify")
    @classmethod
    def _known_certificate(cls, name: str, info: ValidationInfo) -> str:
        if name == "none":
            return name
        if info.context == SHALLOW:
            known, probabilistic = written_names("robcert.certificates", "certificate"), False
        else:
            from robcert.certificates import certificates

            known = certificates.names()
            probabilistic = name in known and certificates.get(name).probabilistic
        if name not in known:
            raise ValueError(f"unknown certificate {name!r}\n{did_you_mean(name, [*known, 'none'])}")
        if probabilistic:
            raise ValueError(
                f"{name} certifies another classifier, with a probability: it proves nothing about this one\nUse best"
            )
        return name

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> Requirement:
        from robcert.policy.kinds import kinds

        kind = kinds.get(self.kind)
        given = self.model_fields_set - {"kind", "limit", "name", "confidence"}
        if missing := sorted(kind.needs - given):
            raise ValueError(f"{self.kind} needs {' and '.join(missing)}")
        if extra := sorted(given - kind.needs - kind.takes):
            raise ValueError(f"{self.kind} takes no {extra[0]}")
        if not 0 < self.limit <= kind.largest and not (kind.sign == "at most" and self.limit == 0):
            reach = "positive" if math.isinf(kind.largest) else f"above 0 and at most {kind.largest:g}"
            raise ValueError(f"{self.kind} = {self.limit:g}: expected a number {reach}")
        if "plan" in kind.takes and info.context != SHALLOW:
            try:
                self.legs()
            except RobcertError as error:
                raise ValueError(str(error)) from None
        return self

    def threat(self) -> tuple[ThreatNorm, float]:
        """Norm and eps, of a kind that needs both."""
        assert self.norm is not None
        assert self.eps is not None
        return self.norm, self.eps

    def legs(self, gradient_free: bool = False) -> list[LegPlan]:
        """The plan, cheapest leg first; equally dear ones as they are written.

        Args:
            gradient_free: for a network without a gradient: where no plan is written, one that needs none.

        Raises:
            UsageError: it cannot be read, an attack does not support the norm or an option, or an option is of none.
        """
        from robcert.policy.kinds import kinds
        from robcert.runs.plan import build, default_plan, parse_plan, plan_without_gradient

        norm = self.norm or "l2"
        text = self.plan or getattr(kinds.get(self.kind), "plan", None)
        if gradient_free and self.plan is None:
            text = plan_without_gradient(norm)
        plan = parse_plan(text, norm) if text else default_plan(norm)
        for leg in plan:
            build(leg, norm, self.options)
        names = list(dict.fromkeys(leg.attack for leg in plan))
        if idle := [name for name in self.options if name not in names]:
            raise UsageError(f"options.{idle[0]}: the plan has no {idle[0]} leg", f"Its attacks: {', '.join(names)}")
        if self.require_converged and not _sweeps(plan):
            raise ValueError(
                f"require_converged needs a sweep: an attack at some iterations and at ten times as many\n"
                f'Example: plan = "{plan[0].attack}:{plan[0].iterations},{10 * plan[0].iterations}"'
            )
        return sorted(plan, key=cost)


def keys() -> list[str]:
    """The keys of a requirement that are of no kind."""
    return [name for name in Requirement.model_fields if name not in ("kind", "limit")]


class Policy(Table):
    """``[gate]``: which models, on which images, and what has to hold."""

    models: tuple[ModelEntry, ...]
    require: tuple[Requirement, ...]
    data: str | None = Field(default=None, min_length=1)
    split: str = "test"
    class_order: str | None = Field(default=None, min_length=1)
    n: int | None = Field(default=None, ge=1, strict=True, description="images: a stratified sample; none: all")
    seed: int = Field(default=0, ge=0, strict=True)
    time_budget: Annotated[float, BeforeValidator(seconds)] | None = None
    time_per_image: Annotated[float, BeforeValidator(seconds)] = Field(
        default=5.0, description="CPU seconds for the certificate of each image"
    )
    baseline: str | None = Field(default=None, min_length=1)

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, (list, tuple)) or not given:
            raise ValueError(f'expected a list of models, found {given!r}\nExample: models = ["digits-l2nnn"]')
        return [{"path": entry} if isinstance(entry, str) else entry for entry in given]

    @field_validator("require", mode="before")
    @classmethod
    def _some(cls, given: Any) -> Any:
        if not isinstance(given, (list, tuple)) or not given:
            raise ValueError("nothing is required\nAdd a [[gate.require]] table, e.g. with natural_accuracy = 0.9")
        return given

    @model_validator(mode="after")
    def _names_differ(self) -> Policy:
        names = [requirement.name for requirement in self.require]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two requirements are called {twice[0]!r}\nGive each a name of its own: name = ...")
        if self.baseline is None and any(r.kind == "attacked_accuracy_drop" for r in self.require):
            raise ValueError('a drop is measured against a baseline\nAdd baseline = "baseline.json" to [gate]')
        return self


def _sweeps(plan: list[LegPlan]) -> bool:
    return any(
        a.attack == b.attack and a.restarts == b.restarts and b.iterations >= 10 * a.iterations
        for a in plan
        for b in plan
    )


def cost(leg: LegPlan) -> int:
    """Return the forwards and backwards of a leg on one image, in one search step of an attack that has several."""
    from robcert.attacks import attacks

    step = attacks.get(leg.attack).cost
    return leg.iterations * leg.restarts * max(1, step.forwards + step.backwards)
