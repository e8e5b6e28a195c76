"""Names under which files are written before they are renamed into place."""

from __future__ import annotations

from pathlib import Path

from robcert.errors import UsageError


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
