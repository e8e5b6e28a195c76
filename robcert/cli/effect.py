"""Every option that is typed has an effect, or is refused before anything is loaded; so is a call that lacks one.

`robcert.cli.uses` has a rule for each option of each command: why it has no effect in this call, if it has none. What
is typed on the command line is then refused, with exit code 2. What a configuration file or the environment sets speaks
of other calls too: here it is as if it were not set.
"""

from __future__ import annotations

import re
from copy import copy
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from robcert.cli.given import UNSET, Given, Idle
from robcert.cli.missing import check_missing
from robcert.cli.uses import USES
from robcert.errors import UsageError
from robcert.registry import written_names

_TYPES: dict[Any, str] = {str: "TEXT", int: "INT", float: "NUMBER", Path: "PATH", list[str]: "TEXT"}
"""What the help calls the type of a value."""
_LONG = frozenset(("attack", "certify", "verify", "gate", "norms", "jacobian", "detect", "train"))
"""Commands that load models or data before they work, which is shown."""
_REGISTERED = re.compile(r"\{([\w.]+):(\w+)\}")


class Command(TyperCommand):
    """A command that refuses what has no effect before it begins.

    In the help of an option "{PACKAGE:DECORATOR}" stands for the names that are registered there. The names of
    variables of the environment follow one rule, which `robcert --help` says once.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: an option takes as few lines as 80 columns allow."""
        shown = copy(self)  # other calls in this process keep the options as they are
        shown.params = [_brief(copy(param)) for param in self.params]
        super(Command, shown).format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Check the options, then call the command."""
        from robcert.progress import listening
        from robcert.reports.display import Display

        check(ctx)
        check_missing(ctx)
        display = Display()
        with listening(display):
            if name_of(ctx) in _LONG:
                display.load(f"robcert {name_of(ctx)}: loading")
            try:
                return super().invoke(ctx)
            finally:
                display.hush()


def _brief(param: Any) -> Any:
    """Return a parameter as the help shows it: its default in its sentence, a short name of its type, no range."""
    told: str = getattr(param, "help", None) or ""
    if registered := _REGISTERED.search(told):
        told = told.replace(registered[0], ", ".join(written_names(*registered.groups())))
    flag, default = getattr(param, "is_flag", False), param.default
    if isinstance(param.show_default, str):
        told += f" Default: {param.show_default}."
    elif param.show_default and not flag and default not in (None, "", []) and not callable(default):
        told += f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    if flag:
        param.metavar = ""
    elif param.param_type_name == "option" and param.metavar is None:
        param.metavar = _TYPES.get(annotation)
    param.min = param.max = None
    param.help, param.show_default, param.show_envvar = told, False, False
    return param


def check(context: Any) -> None:
    """Refuse typed options without an effect; forget those that a configuration file or the environment sets.

    Raises:
        UsageError: there is one; it names all that have no effect for the same reason.
    """
    given, uses = Given(context), USES[name_of(context)]
    idle: dict[Idle, list[str]] = {}
    forgotten: list[Any] = []
    for param in context.command.params:
        strength = given.strength(param.name)
        if param.name not in uses or strength == UNSET:
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
