"""Tables of papers, run again on the models of the zoo; one file a table, each registered by its decorator."""

from __future__ import annotations

from collections.abc import Callable

from robcert.registry import Registry
from robcert.reproduce.record import Column, ReproduceRecord, Table
from robcert.reproduce.settings import Settings

Reproduction = Callable[[Settings], ReproduceRecord]

reproductions: Registry[Reproduction] = Registry("reproduction", "robcert.reproduce")
"""Functions from settings to a record; the first line of the docstring says which table of which paper."""

reproduction = reproductions.register

__all__ = ["Column", "ReproduceRecord", "Reproduction", "Settings", "Table", "reproduction", "reproductions"]
