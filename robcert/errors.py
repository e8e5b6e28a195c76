"""The one family of errors that reaches a user: what was found, what was expected, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobcertError(Exception):
    """An error with a message for a person and an exit code for a script.

    Args:
        found: what was found, and what was expected instead.
        do: what to do next (a command that works, where there is one).
    """

    exit_code = 3

    def __init__(self, found: str, do: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.do = do

    def __str__(self) -> str:
        return f"{self.found}\n{self.do}" if self.do else self.found


class UsageError(RobcertError):
    """A flag, a configuration or a name is wrong (exit code 2)."""

    exit_code = 2


class EvaluationError(RobcertError):
    """The evaluation could not be done, or contradicted itself (exit code 3)."""

    exit_code = 3


class Interrupted(RobcertError):
    """Ctrl-C, after the state was saved (exit code 130)."""

    exit_code = 130


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """One sentence that names the closest known name, or lists all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    listed = ", ".join(known)
    return f"Did you mean {close[0]!r}? Known: {listed}." if close else f"Known: {listed}."


def first_line(error: BaseException, most: int = 300) -> str:
    """Return the first line of what an exception says (its class where it says nothing), at most so many letters."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else type(error).__name__
