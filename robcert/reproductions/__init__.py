"""Tables of papers, run again on the models of the zoo; one file a table, each registered by its decorator."""

from __future__ import annotations

from collections.abc import Callable

from robcert.registry import Registry
from robcert.reproductions.record import Column, ReproduceRecord, Table
from robcert.reproductions.settings import Settings

Reproduction = Callable[[Settings], ReproduceRecord]

reproductions: Registry[Reproduction] = Registry("reproduction", "robcert.reproductions")
"""Functions from settings to a record; the first line of the docstring says which table of which paper."""

UNUSED: dict[str, frozenset[str]] = {}
"""Reproduction -> the settings that it does not read."""


def reproduction(name: str, *unused: str) -> Callable[[Reproduction], Reproduction]:
    """Decorator that registers a reproduction, with the names of the settings that it does not read."""

    def keep(make: Reproduction) -> Reproduction:
        UNUSED[name] = frozenset(unused)
        return reproductions.register(name)(make)

    return keep


def reproduce(table: str, settings: Settings | None = None) -> ReproduceRecord:
    """Run a table of a paper again on the models of the zoo.

    Every model is attacked in a run directory of its own, in which an interrupted call goes on.

    Args:
        table: its name, one of ``reproductions.names()``.
        settings: how large a part of it, on which data, where runs are kept (`robcert.reproductions.Settings`).

    Returns:
        Tables with the paper's numbers beside those of the zoo, and what differs.

    Raises:
        UsageError: an unknown table, or a setting that it has no use for.
        EvaluationError: the evaluation could not be done.
        Interrupted: Ctrl-C, after saving.
    """
    return reproductions.get(table)(settings or Settings())


__all__ = [
    "UNUSED",
    "Column",
    "ReproduceRecord",
    "Reproduction",
    "Settings",
    "Table",
    "reproduce",
    "reproduction",
    "reproductions",
]
