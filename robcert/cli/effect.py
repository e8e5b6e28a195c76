"""Every option that is typed has an effect, or is refused before anything is loaded.

`robcert.cli.uses` has a rule for each option of each command: why it has no effect in this call, if it has none. What
is typed on the command line is then refused, with exit code 2. What a configuration file or the environment sets speaks
of other calls too: here it is as if it were not set.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from robcert.errors import RobcertError, UsageError
from robcert.registry import written_names

if TYPE_CHECKING:
    from robcert.data.source import Source
    from robcert.runs.plan import LegPlan

_REGISTERED = re.compile(r"\{([\w.]+):(\w+)\}")

_SOURCES = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP", "DEFAULT")


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
        return min(_SOURCES.index("DEFAULT" if source is None else source.name) for source in sources)

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


class Command(TyperCommand):
    """A command that refuses what has no effect before it begins.

    In the help of an option "{PACKAGE:DECORATOR}" stands for the names that are registered there.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with names that may have been added."""
        for option in self.params:
            told: str = getattr(option, "help", None) or ""
            if registered := _REGISTERED.search(told):
                names = ", ".join(written_names(*registered.groups()))
                option.help = told.replace(registered[0], names)  # pyright: ignore[reportAttributeAccessIssue]
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Check the options, then call the command."""
        check(ctx)
        return super().invoke(ctx)


def check(context: Any) -> None:
    """Refuse typed options without an effect; forget those that a configuration file or the environment sets.

    Raises:
        UsageError: there is one; it names all that have no effect for the same reason.
    """
    from robcert.cli.uses import USES

    given, uses = Given(context), USES[name_of(context)]
    idle: dict[Idle, list[str]] = {}
    forgotten: list[Any] = []
    for param in context.command.params:
        strength = given.strength(param.name)
        if param.name not in uses or strength == _SOURCES.index("DEFAULT"):
            continue
        why = uses[param.name](given)
        if why is not None and strength == 0:
            idle.setdefault(why, []).append(param.opts[0])
        elif why is not None:
            forgotten.append(param)
    for why, flags in idle.items():
        listed = " and ".join(filter(None, (", ".join(flags[:-1]), flags[-1])))
        raise UsageError(f"{listed} {'has' if len(flags) == 1 else 'have'} no effect: {why.why}", why.do)
    for param in forgotten:
        context.params[param.name] = param.default  # of the type that the command takes


def name_of(context: Any) -> str:
    """The name of a command below the program: "attack", "data lipschitz"."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.command.name)
        context = context.parent
    return " ".join(names)
