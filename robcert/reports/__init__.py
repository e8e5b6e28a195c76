"""Renders records: one registry, keyed by record and format, so that a command prints any format of its record.

A renderer is one file here, or in a folder below, with ``@renderer(FORMAT, RECORD, ...)``; it returns the text that
goes to stdout or to ``--output``. Entry points of the group ``robcert.reports`` are called "RecordClass.format".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from robcert.errors import UsageError, did_you_mean
from robcert.registry import Registry

Render = Callable[[Any], str]
F = TypeVar("F", bound=Render)

renderers: Registry[Render] = Registry("renderer", "robcert.reports")
"""Functions from a record to a text, by the names of the record's class and of the format: "CertifyRecord.html"."""


def renderer(format: str, *records: type) -> Callable[[F], F]:
    """Return the decorator that registers a function as the renderer of these records in a format."""

    def keep(function: F) -> F:
        for record in records:
            renderers.register(f"{record.__name__}.{format}")(function)
        return function

    return keep


def formats(record: type) -> list[str]:
    """Return the names of the formats that a class of records is rendered in, sorted."""
    pairs = [name.partition(".") for name in renderers.names()]
    return [format for kind, _, format in pairs if kind == record.__name__]


def renderer_of(record: type, format: str) -> Render:
    """Return the renderer of a class of records in a format.

    Raises:
        UsageError: there is none; the closest known format is suggested.
    """
    if f"{record.__name__}.{format}" not in renderers:
        raise UsageError(f"unknown format {format!r}", did_you_mean(format, formats(record)))
    return renderers.get(f"{record.__name__}.{format}")
