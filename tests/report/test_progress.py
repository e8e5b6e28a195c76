"""What a person sees while a run executes."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from robcert.report.progress import ConsoleReporter


def test_a_network_that_cannot_be_captured_is_named_once() -> None:
    out = io.StringIO()
    leg: Any = SimpleNamespace(steps=SimpleNamespace(refused="net.py:3 waits for the device"))
    with ConsoleReporter(Console(file=out, width=200)) as reporter:
        for name in ("one", "other"):
            reporter.model(name, 1, 1, 0)
            reporter.look(leg)
            reporter.look(leg)
    lines = [line for line in out.getvalue().splitlines() if "waits" in line]
    assert lines == [
        f"{name}: no CUDA graph, steps run one by one: net.py:3 waits for the device" for name in ("one", "other")
    ]
