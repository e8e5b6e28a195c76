"""Renders the verdict of a gate; one file a format, each registered by its decorator."""

from __future__ import annotations

from collections.abc import Callable

from robcert.policy.record import GateRecord
from robcert.registry import Registry

GateRenderer = Callable[[GateRecord], str]

renderers: Registry[GateRenderer] = Registry("format", "robcert.reports.gate")
"""Functions from a record to the text that goes to stdout or to ``--output``."""

renderer = renderers.register
