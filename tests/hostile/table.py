"""The table of hostile files: what each is, the trick in it, whether it is live, and where the trick is documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Build = Callable[["Place"], Path]
NORMS = ("norms", "{file}")
SHAPED = ("norms", "{file}", "--input-shape", "1,8,8")
WEIGHTS = ("norms", "{file}", "--arch", "linear", "--input-shape", "1,8,8")
ATTACK = ("attack", "{file}", "--data", "digits", "--n", "20", "--norm", "l2", "--eps", "0.5", "--plan", "pgd:5")


@dataclass(frozen=True)
class Place:
    """Where a case is built: `root`/files has the file, `root`/work is the working directory with a module `canary`."""

    root: Path

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def evidence(self) -> str:
        """The path that a payload writes."""
        return str(self.root / "canary" / "ran")

    @property
    def code(self) -> str:
        """A Python expression that writes the evidence."""
        return f"open({self.evidence!r}, 'w').write('ran')"

    @property
    def shell(self) -> str:
        """A command that writes the evidence."""
        return f"touch {self.evidence}"


@dataclass(frozen=True)
class Case:
    """One hostile file.

    `control` names the loader without robcert's check that makes it write, start, connect or import; "" where none
    does, and then `alive` is False. `cost` marks files that could only take time or memory. `loads` marks those that
    may also be read as what they are without the trick. `docs` marks tricks taken from public documentation.
    `seconds` is the time of the processor that it gets.
    """

    name: str
    form: str
    trick: str
    source: str
    build: Build = field(repr=False)
    control: str = ""
    cost: bool = False
    loads: bool = False
    docs: bool = False
    argv: tuple[str, ...] = NORMS
    environment: tuple[tuple[str, str], ...] = ()
    allowed: tuple[str, ...] = ()
    seconds: int = 40

    @property
    def alive(self) -> bool:
        return bool(self.control)


CASES: dict[str, Case] = {}


def hostile(
    name: str,
    form: str,
    trick: str,
    source: str,
    *,
    control: str = "",
    cost: bool = False,
    loads: bool = False,
    docs: bool = False,
    argv: tuple[str, ...] | None = None,
    environment: tuple[tuple[str, str], ...] = (),
    allowed: tuple[str, ...] = (),
    seconds: int = 40,
) -> Callable[[Build], Build]:
    """Put a case into the table; the function builds its file and returns its path."""

    def put(build: Build) -> Build:
        assert name not in CASES, name
        command = argv or {"torchscript": SHAPED, "pickle": WEIGHTS, "zip": WEIGHTS}.get(form, NORMS)
        written = allowed or (("work/runs",) if command[0] == "attack" else ())
        CASES[name] = Case(
            name, form, trick, source, build, control, cost, loads, docs, command, environment, written, seconds
        )
        return build

    return put
