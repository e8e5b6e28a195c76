"""The tables and the JSON of overhead.py."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

import torch
from contender import Missing
from contenders import BASIC
from measure import BUDGET, LIMITS, Row, Target
from rich.console import Console
from rich.table import Table
from task import Task


def print_head(console: Console, task: Task, unfrozen: bool) -> None:
    """What is attacked, on what."""
    given = "a copy whose weights require gradients (--unfrozen)" if unfrozen else "the same frozen module"
    console.print(
        f"{task.data}: convolutional network with {task.parameters:,} parameters, "
        f"test accuracy {task.accuracy:.1%}; {len(task.x)} images that it classifies clearly, float32. "
        f"The peers get {given}.\n"
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}",
        highlight=False,
    )


def print_timings(console: Console, rows: list[Row], notes: list[int], clock: str) -> None:
    """What a step costs."""
    numbers = list(rows[0].timings)
    rounds = len(rows[0].timings[numbers[0]].ratios)
    table = Table(title=f"Time per gradient step: medians of {rounds} alternating rounds (least-most), {clock} time")
    table.add_column("attack", no_wrap=True)
    table.add_column("of", no_wrap=True)
    for threads in numbers:
        table.add_column(f"{_threads(threads)}\nms", justify="right", no_wrap=True)
        table.add_column("\nover bare", justify="right", no_wrap=True)
        table.add_column("once,\nbare steps", justify="right", no_wrap=True)
    table.add_column("target", justify="right", no_wrap=True)
    table.add_column("note", justify="right", no_wrap=True)
    cells: list[str] = []
    for threads in numbers:
        bare = statistics.median(b for row in rows if row.timings for b in row.timings[threads].bare)
        cells += [f"{1e3 * bare:.1f}", "1", ""]
    table.add_row("bare loop", f"torch {torch.__version__}", *cells, "", "")
    for family in BASIC:
        table.add_section()
        for row, note in zip(rows, notes, strict=True):
            contender = row.contender
            if contender.family != family or not row.timings:
                continue
            cells = []
            for timing in row.timings.values():
                low, high = min(timing.ratios), max(timing.ratios)
                milliseconds = 1e3 * statistics.median(timing.seconds)
                cells += [
                    f"{milliseconds:.1f}",
                    f"{timing.ratio:.3f} {low:.2f}-{high:.2f}",
                    f"{timing.once_ratio:.1f}",
                ]
            judged = contender.library == "robcert" and contender.label == family.split()[0]
            table.add_row(
                f"{family}: {contender.label}",
                f"{contender.library} {contender.version}",
                *cells,
                f"<= {LIMITS[family]:.2f}" if judged else "",
                str(note),
                style="bold" if judged else None,
            )
    console.print(table)


def print_worth(console: Console, rows: list[Row], steps: int, searches: int) -> None:
    """What the steps found."""
    table = Table(title=f"What {steps * searches} gradient steps are worth (cw: {searches} values of c, {steps} each)")
    for name in ("attack", "of"):
        table.add_column(name, no_wrap=True)
    for name in ("eps", "success", "median distance", "gradient steps"):
        table.add_column(name, justify="right", no_wrap=True)
    for family in BASIC:
        table.add_section()
        for row in rows:
            if row.contender.family != family or row.worth is None:
                continue
            table.add_row(
                f"{family}: {row.contender.label}",
                f"{row.contender.library} {row.contender.version}",
                "none" if family == "cw l2" else f"{BUDGET[family]:g}",
                f"{row.worth.success:.1%}",
                f"{row.worth.median:.4f}",
                str(row.worth.gradients),
            )
    console.print(table)
    console.print(
        "Every result is judged here and not by its library: in the box, float64 distance, float32 answer.\n"
        "The median counts a failure as infinitely far. robcert's pgd lets go of an image at its\n"
        "first example within eps. Where an attack stops early by itself, its gradient steps are fewer."
    )


def notes(rows: list[Row]) -> tuple[list[str], list[int]]:
    """What differs between the attacks: the texts, and for each row the number of its text, from 1."""
    texts: list[str] = []
    numbers: list[int] = []
    for row in rows:
        text = f"{row.contender.library}: {row.contender.differs}; "
        text += (
            "computes gradients of weights too, unless they are frozen"
            if row.weight_gradients
            else "gradients to x only"
        )
        if text not in texts:
            texts.append(text)
        numbers.append(texts.index(text) + 1)
    return texts, numbers


def print_notes(console: Console, texts: list[str]) -> None:
    """The texts below the first table."""
    for number, text in enumerate(texts, 1):
        console.print(f"{number:>2}  {text}", markup=False, highlight=False)
    console.print("once: random starts, verification and whatever else is done once a run and not once a step")


def print_targets(console: Console, judged: list[Target], missing: list[Missing], quick: bool) -> None:
    """Which targets are met, and what is not there."""
    for library in missing:
        console.print(f"missing: {library.library} ({library.reason}); see benchmarks/README.md", markup=False)
    for target in judged:
        where = _threads(target.threads)
        if target.measured is None:
            console.print(f"not judged  {target.what}, {where}: adv-lib was not measured", highlight=False)
        else:
            console.print(
                f"{'met' if target.met else 'NOT MET':<10}  {target.what}, {where}: {target.measured:.3f} "
                f"(at most {target.limit:.2f})",
                highlight=False,
            )
    if quick:
        console.print("A smoke run: too few steps and too small a batch for any figure to mean something.")


def record(
    options: dict[str, Any], task: Task, rows: list[Row], judged: list[Target], missing: list[Missing]
) -> dict[str, Any]:
    """All that was measured. A median distance of infinity is null."""
    return {
        "schema": "robcert.benchmark.overhead/1",
        "options": options,
        "data": task.data,
        "parameters": task.parameters,
        "accuracy": task.accuracy,
        "images": len(task.x),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "attacks": [_attack(row) for row in rows],
        "targets": [
            {"what": t.what, "threads": t.threads, "limit": t.limit, "measured": t.measured, "met": t.met}
            for t in judged
        ],
        "missing": [{"library": m.library, "reason": m.reason} for m in missing],
    }


def _attack(row: Row) -> dict[str, Any]:
    contender, worth = row.contender, row.worth
    found: dict[str, Any] = {
        "library": contender.library,
        "version": contender.version,
        "family": contender.family,
        "label": contender.label,
        "differs": contender.differs,
        "weight_gradients": row.weight_gradients,
        "threads": {
            str(threads): {
                "step_seconds": timing.seconds,
                "bare_seconds": timing.bare,
                "once_seconds": timing.once,
                "ratio": timing.ratio,
            }
            for threads, timing in row.timings.items()
        },
        "worth": None,
    }
    if worth is not None:
        median = worth.median if worth.median < float("inf") else None
        found["worth"] = {
            "success": worth.success,
            "median_distance": median,
            "gradient_steps": worth.gradients,
        }
    return found


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
