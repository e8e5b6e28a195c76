"""A call of a command as it was given, and rules about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from robcert.errors import RobcertError

if TYPE_CHECKING:
    from robcert.data.source import Source
    from robcert.runs.plan import LegPlan

_SOURCES = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP", "DEFAULT")
UNSET = _SOURCES.index("DEFAULT")
"""The strength of a parameter that nobody set."""


@dataclass(frozen=True)
class Idle:
    """The reason why an option has no effect, and the way out: two parts of an error message."""

    why: str
    do: str


class Given:
    """The parameters of a call, and what can be known of its models and data without reading them.

    Args:
        context: of the command, its parameters parsed.
    """

    def __init__(self, context: typer.Context) -> None:
        self._context = context
        self.subcommand: str | None = context.invoked_subcommand

    def __getitem__(self, name: str) -> Any:
        """The value of a parameter."""
        return self._context.params.get(name)

    def strength(self, *names: str) -> int:
        """Return how near to the command line the strongest source of these parameters is: 0 typed, 3 not set."""
        sources = [self._context.get_parameter_source(name) for name in names]
        return min(UNSET if source is None else _SOURCES.index(source.name) for source in sources)

    @property
    def references(self) -> list[str]:
        """The models of the command line."""
        named = self["models"] if "models" in self._context.params else self["model"]
        return [named] if isinstance(named, str) else list(named or ())

    @cached_property
    def formats(self) -> tuple[str, ...] | None:
        """The formats of the models, "architecture" for a name of one; None where a file cannot be recognised."""
        from robcert.network.detect import detect
        from robcert.network.zoo import resolve

        found: list[str] = []
        for reference in self.references:
            try:
                found.append(detect(resolve(reference)[0]))
            except RobcertError:
                if ":" not in reference or Path(reference).exists():
                    return None
                found.append("architecture")
        return tuple(found)

    @property
    def by_name(self) -> bool:
        """True if a model is named by its library: "timm:resnet18"."""
        from robcert.network.zoo import LIBRARIES

        return any(reference.partition(":")[0] in LIBRARIES for reference in self.references)

    @cached_property
    def data(self) -> tuple[tuple[str, Source], ...] | None:
        """The data sets that will be read, with what the registry knows of them; None where that is not known."""
        from robcert.cli.inputs import data_of_cards
        from robcert.data import datasets

        try:
            names = self["names"] or ([self["data"]] if self["data"] else data_of_cards(self.references).values())
            return tuple((name, datasets.get(name.partition(":")[0])) for name in names) or None
        except RobcertError:
            return None

    @cached_property
    def legs(self) -> list[LegPlan] | None:
        """The legs of the plan of `robcert attack`; None where they cannot be read."""
        from robcert.runs.plan import chosen_plan, default_plan

        one_by_one = ("attack", "iterations", "restarts")
        try:
            plan = self["plan"] if self.strength(*one_by_one) >= self.strength("plan") else None
            named = chosen_plan(self["norm"], plan, *(self[name] for name in one_by_one))
            return named or default_plan(self["norm"])
        except RobcertError:
            return None


Rule = Callable[[Given], Idle | None]
"""Why an option has no effect in a call; None where it has one, or may have one."""
