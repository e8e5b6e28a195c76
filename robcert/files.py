"""Writing files so that a reader, or a crash, never meets half of one, and no link leads elsewhere what is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from robcert.errors import UsageError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary name beside ``path``, flush it to the disk, then rename it."""
    temporary = fresh(path.with_name(f".{path.name}.tmp"))
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def fresh(temporary: Path) -> Path:
    """Return a name to write to, free: a link that waits under it would carry what is written to another place."""
    if temporary.is_symlink() or temporary.is_file():
        temporary.unlink()
    return temporary


def refuse_links(directory: Path, names: tuple[str, ...]) -> None:
    """Refuse a directory in which one of the files that are written in place is a symbolic link.

    Raises:
        UsageError: the first such file, and where it points.
    """
    for name in names:
        path = directory / name
        if path.is_symlink():
            raise UsageError(
                f"{path} is a symbolic link to {path.readlink()}, where robcert would write a file of its own",
                "Remove the link, or name another directory.",
            )
