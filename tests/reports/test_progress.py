"""What a person sees while a run executes."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from robcert.reports.progress import ConsoleReporter
from robcert.runs.plan import LegPlan


def test_a_network_that_cannot_be_captured_is_named_once() -> None:
    out = io.StringIO()
    leg: Any = SimpleNamespace(
        stepper=SimpleNamespace(refused="net.py:3 waits for the device", fusing=None, unfused=None)
    )
    with ConsoleReporter(Console(file=out, width=200)) as reporter:
        for name in ("one", "other"):
            reporter.model(name, 1, 1, 0)
            reporter.synchronised(leg)
            reporter.synchronised(leg)
    lines = [line for line in out.getvalue().splitlines() if "waits" in line]
    assert lines == [
        f"{name}: no CUDA graph, steps run one by one: net.py:3 waits for the device" for name in ("one", "other")
    ]


def test_fusing_is_told_with_what_it_took_and_why_not() -> None:
    out = io.StringIO()
    steps = SimpleNamespace(refused=None, fusing=None, unfused=None)
    leg: Any = SimpleNamespace(stepper=steps)
    with ConsoleReporter(Console(file=out, width=200)) as reporter:
        reporter.model("one", 1, 1, 0)
        reporter.leg("one", LegPlan("cw", 1_000_000), 1)
        reporter.synchronised(leg)
        steps.fusing = 4.4
        reporter.synchronised(leg)
        reporter.synchronised(leg)
        steps.unfused = "OSError: no compiler"
        reporter.synchronised(leg)
        reporter.synchronised(leg)
    assert out.getvalue().splitlines()[1:] == [
        "one cw:1M: kernels fused, which took 4 s to compile",
        "one: kernels not fused: OSError: no compiler",
    ]
