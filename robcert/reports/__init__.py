"""Renders records; one file a format, each registered by its decorator."""

from __future__ import annotations

from collections.abc import Callable

from robcert.registry import Registry
from robcert.runs.record import RunRecord

Renderer = Callable[[RunRecord], str]

renderers: Registry[Renderer] = Registry("format", "robcert.reports")
"""Functions from a record to the text that goes to stdout or to ``--output``."""

renderer = renderers.register
