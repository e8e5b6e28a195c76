"""Texts of the command line that more than one command reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from robcert.errors import UsageError, did_you_mean
from robcert.progress import hush
from robcert.text import shown

S = TypeVar("S", bound=str)


def choice(what: str, given: str, known: Sequence[S]) -> S:
    """Return the value of an option, which is one of those that are known.

    Raises:
        UsageError: it is not; the closest known value is suggested.
    """
    for one in known:
        if one == given:
            return one
    raise UsageError(f"unknown {what} {given!r}", did_you_mean(given, known))


def numbers(text: str, flag: str) -> tuple[float, ...]:
    """Numbers or fractions separated by commas: "0.5,1" or "8/255".

    Raises:
        UsageError: a part is no number.
    """
    values: list[float] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            values.append(float(Fraction(part)) if "/" in part else float(part))
        except (ValueError, ZeroDivisionError):
            raise UsageError(
                f"{flag} {text}: {part!r} is not a number",
                f"Example: {flag} 0.5 or {flag} 0.5,1,1.5 or {flag} 8/255",
            ) from None
    if not values:
        raise UsageError(f"{flag} is empty", f"Example: {flag} 0.5")
    return tuple(values)


def duration(flag: str, text: str) -> float:
    """Return the seconds of "90s", "10m" or "2h".

    Raises:
        UsageError: it is no duration.
    """
    from robcert.policy.schema import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}", f"Example: {flag} 10m") from None


def sizes(text: str, flag: str) -> tuple[int, ...]:
    """Positive whole numbers separated by commas: "3,32,32".

    Raises:
        UsageError: a part is none.
    """
    return _whole(text.split(","), 1, f"{flag} {text}", "size", f"{flag} 3,32,32")


def indices(text: str, flag: str) -> tuple[int, ...]:
    """Whole numbers separated by commas: "12,40".

    Raises:
        UsageError: a part is none, or there is no part.
    """
    parts = [part for part in text.split(",") if part.strip()]
    return _whole(parts or [""], 0, f"{flag} {text}", "index", f"{flag} 12 or {flag} 12,40")


def _whole(parts: list[str], least: int, given: str, what: str, example: str) -> tuple[int, ...]:
    parts = [part.strip() for part in parts]
    wrong = [
        part
        for part in parts
        if not (part.isascii() and part.isdecimal() and len(part) < 19 and int(part) >= least)  # int64
    ]
    if wrong:
        raise UsageError(f"{given}: {wrong[0]!r} is no {what} of an image", f"Example: {example}")
    return tuple(int(part) for part in parts)


def attack_options(given: list[str], plan: list[str], shorthands: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options by attack from "cw.abort_early=false" texts and from flags that stand for an option of every attack.

    Args:
        given: ATTACK.OPTION=VALUE texts.
        plan: the attacks of the plan.
        shorthands: option names to values; None where the flag was not given. Each goes to every attack of the plan
            that has such an option.

    Raises:
        UsageError: a text is not of that form, an attack is not in the plan, or no attack has the option.
    """
    from dataclasses import fields

    from robcert.attacks import attacks

    options: dict[str, dict[str, Any]] = {}
    for name, value in shorthands.items():
        if value is None:
            continue
        able = [attack for attack in dict.fromkeys(plan) if name in {f.name for f in fields(attacks.get(attack))}]  # type: ignore[arg-type]
        if not able:
            raise UsageError(f"none of the attacks {', '.join(dict.fromkeys(plan))} has the option {name!r}")
        for attack in able:
            options.setdefault(attack, {})[name] = value
    for text in given:
        target, found, value = text.partition("=")
        attack, dot, name = target.partition(".")
        if not (found and dot and attack and name):
            raise UsageError(f"--option {text!r} is not ATTACK.OPTION=VALUE", "Example: --option cw.abort_early=false")
        attacks.get(attack)
        if attack not in plan:
            raise UsageError(
                f"--option {text}: the plan has no {attack} leg",
                f"Its attacks: {', '.join(dict.fromkeys(plan))}",
            )
        options.setdefault(attack, {})[name.replace("-", "_")] = value
    return options


def write(text: str, output: Path | None) -> None:
    """To stdout, or to a file. A reader who has left (`| head`) is no error: the exit code is that of the work.

    Raises:
        UsageError: the file cannot be written.
    """
    import typer

    hush()
    if output is None:
        # Names out of files stand in tables too.
        colours = "NO_COLOR" not in os.environ and (sys.stdout.isatty() or "FORCE_COLOR" in os.environ)
        try:
            typer.echo(shown(text, colours))
        except BrokenPipeError:
            silence()
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output} ({error.strerror})", "Name another file with --output") from None


def silence() -> None:
    """Nobody reads stdout: nor does Python say so when it flushes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
