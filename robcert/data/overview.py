"""The overview of all data sets, without reading one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from robcert.data.load import where
from robcert.data.source import datasets


@dataclass(frozen=True)
class Entry:
    """One line of `robcert data`.

    Attributes:
        name: how the command line calls it ("npz:PATH" where a path belongs to it).
        title: how a table calls it.
        shape: the shape of one image; None where only the files know.
        classes: how many; None where only the files know.
        sizes: images per split; empty where only the files know.
        places: where the files are looked for, and whether they are there; empty for embedded data.
        ready: whether it can be read now; None where a path has to be given first.
    """

    name: str
    title: str
    shape: tuple[int, ...] | None
    classes: int | None
    sizes: dict[str, int]
    places: tuple[tuple[Path, bool], ...]
    ready: bool | None


def overview(data_dir: str | os.PathLike[str] | None = None) -> list[Entry]:
    """All registered data sets, sorted by name.

    Args:
        data_dir: the folder of the files; default ``$ROBCERT_DATA``, then ``~/.cache/robcert``.
    """
    entries: list[Entry] = []
    for name, source in datasets.items():
        places = tuple(where(name, data_dir))
        entries.append(
            Entry(
                name=f"{name}:PATH" if source.from_path else name,
                title=source.title,
                shape=source.shape,
                classes=len(source.classes) or None,
                sizes=dict(source.sizes),
                places=places,
                ready=None if source.from_path else not places or any(found for _, found in places),
            )
        )
    return entries
