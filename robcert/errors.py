"""The one family of errors that reaches a user: what was found, what was expected, what to do next."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


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


def network_fault(error: BaseException) -> EvaluationError:
    """Return what a person is told of an exception that a network of theirs raised: its first line, and their line."""
    text = str(error).strip()
    # The interpreter of TorchScript says first where, and what went wrong last.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1][:300] if lines and "TorchScript" in lines[0] else first_line(error)
    kind = type(error).__name__
    said = said if said.startswith(kind) else f"{kind}: {said}" if lines else kind
    where = users_line(error)
    return EvaluationError(
        said + (f" (in {where})" if where else ""),
        "The network raised it. Where it cannot take some images of the box, no verdict about them is possible.",
    )


def users_line(error: BaseException | None) -> str:
    """Return the last line of a user's code on the way to an error: "nets.py:12: if x.max() > 1:"; "" without one."""
    found = ""
    while error is not None and not found:
        found = last_line(traceback.extract_tb(error.__traceback__))
        error = error.__cause__ or error.__context__
    return found


def last_line(frames: Iterable[traceback.FrameSummary]) -> str:
    """Return the last of some frames that is in code of a user: neither robcert's, nor torch's."""
    found = ""
    for frame in frames:
        path = Path(frame.filename)
        if path.is_file() and not any(path.is_relative_to(folder) for folder in _folders()):
            found = f"{path.name}:{frame.lineno}" + (f": {frame.line}" if frame.line else "")
    return found[:120]


def raised_by_network(error: BaseException) -> bool:
    """Return whether an exception comes out of a network that robcert called, and not out of code of robcert's own."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [k for k, frame in enumerate(frames) if frame.filename.endswith(_CALL) and frame.name == "_call_impl"]
    if not inside:
        return False
    behind = frames[inside[0] + 1 :]
    return bool(last_line(behind)) or not Path(behind[-1].filename).is_relative_to(Path(__file__).parent)


_CALL = str(Path("torch", "nn", "modules", "module.py"))


def _folders() -> Iterator[Path]:
    """Folders of code that no user wrote."""
    yield Path(__file__).parent
    for name in ("torch", "contextlib"):
        if (module := sys.modules.get(name)) is not None and module.__file__:
            yield Path(module.__file__).parent
