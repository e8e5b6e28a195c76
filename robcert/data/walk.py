"""The files and folders below a folder that are meant: not those that systems and programs leave there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from robcert.data.picture import SUFFIXES
from robcert.errors import EvaluationError

_LEFT_BEHIND = frozenset(
    {"__macosx", "__pycache__", "@eadir", "@tmp", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
)
"""Folders of macOS, Python, network drives, Windows and file systems, in lower case."""


@dataclass(frozen=True)
class Found:
    """Pictures below a folder, sorted; and how many other files there are, by suffix."""

    pictures: tuple[Path, ...]
    others: Counter[str]


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted by name, without what is hidden or left behind by programs."""
    return sorted(e for e in folder.iterdir() if not e.name.startswith(".") and e.name.lower() not in _LEFT_BEHIND)


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted by name; links to folders are folders."""
    return [entry for entry in entries(folder) if entry.is_dir()]


def is_picture(path: Path) -> bool:
    """Return whether a file is a picture by its suffix.

    Raises:
        EvaluationError: it is a link to nothing.
    """
    if path.suffix.lower() not in SUFFIXES:
        return False
    if path.is_symlink() and not path.exists():
        raise EvaluationError(f"{path} is a link to a file that is not there", "Mend or remove the link.")
    return path.is_file()


def below(folder: Path) -> Found:
    """All pictures below a folder, at any depth; links are followed, but never in a circle.

    Raises:
        EvaluationError: a picture is a link to nothing.
    """
    pictures: list[Path] = []
    others: Counter[str] = Counter()
    open_folders = [(folder, frozenset({folder.resolve()}))]
    while open_folders:
        current, above = open_folders.pop()
        for entry in entries(current):
            if entry.is_dir():
                real = entry.resolve()
                if real not in above:
                    open_folders.append((entry, above | {real}))
            elif is_picture(entry):
                pictures.append(entry)
            else:
                others[entry.suffix.lower()] += 1
    return Found(tuple(sorted(pictures)), others)
