"""robcert beside the libraries of the field: the same network, images, budgets and number of gradient steps.

    python benchmarks/peers.py                        # the MNIST network and a ResNet-18, about an hour
    python benchmarks/peers.py --tasks cnn --rounds 3
    python benchmarks/peers.py --quick                # a smoke run; its figures mean nothing
    python benchmarks/peers.py --write docs/benchmarks.md

overhead.py asks what robcert adds to a float32 gradient step. This asks what a user waits for: robcert searches in
whatever precision it chooses by itself, and what a run does once (random starts, verification) is in its time. All
contenders run in turns in one process, with its memory kept (`robcert.accel.allocator`), which helps all of them.
How often they call the network and how much memory they hold: footprint.py.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from contender import Contender, Setting
from deciding import Case, decide_all, zoo_cases
from measure import TINY, Worth, worth
from paired import no_worse
from rich.console import Console
from rich.table import Table
from task import Task
from together import compared, parse, parser, precision_of, print_missing, searched, trained, write_page

from robcert.accel.allocator import keep_memory
from robcert.accel.layout import layout_of
from robcert.training.precision import multiplies_bfloat16

TARGET = {"cnn": 0.40, "resnet18": 0.55}
"""Of the fastest peer's time per gradient step, on a processor with bfloat16 instructions."""
WITHOUT = 0.9
"""The same on one without."""


@dataclass
class Row:
    """What one contender took: seconds of a gradient step, by round; and what its steps are worth."""

    contender: Contender
    seconds: list[float]
    worth: Worth | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def options_of(arguments: list[str]) -> argparse.Namespace:
    found = parser(__doc__)
    found.add_argument("--rounds", type=int, default=6, help="alternating rounds (6; resnet18: a third)")
    found.add_argument(
        "--steps", type=int, default=100, help="gradient steps of one timing (100; resnet18: two fifths)"
    )
    found.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    found.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a machine that others use")
    return parse(found, arguments)


def measured(task: Task, steps: int, rounds: int, clock: Callable[[], float], tell: Callable[[str], None]) -> list[Row]:
    """Time per gradient step of every contender: nothing breaks, so each of them takes all its steps."""
    rows = [Row(c, []) for c in compared()]
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        for k in [(k + number) % len(rows) for k in range(len(rows))]:
            counted = task.counted()
            if number == 0:
                rows[k].contender.run(counted, task, Setting(3, 1, TINY, timing=True))  # warm up
            began = clock()
            rows[k].contender.run(counted, task, Setting(steps, 1, TINY, timing=True))
            rows[k].seconds.append((clock() - began) / steps)
    return rows


def tables(name: str, task: Task, rows: list[Row]) -> list[tuple[Table, list[str]]]:
    """The figures, and which targets they meet."""
    table = Table(title=f"{name}: {task.parameters:,} parameters, {len(task.x)} images of {task.data}")
    for column in ("attack", "of", "ms a step", "of the fastest peer", "found", "median distance", "gradient steps"):
        table.add_column(column, justify="left" if column in ("attack", "of") else "right")
    lines: list[str] = []
    for family in dict.fromkeys(row.contender.family for row in rows):
        group = [row for row in rows if row.contender.family == family]
        others = [row for row in group if row.contender.library != "robcert"]
        fastest = min(others, key=lambda row: row.median) if others else None
        for row in group:
            ratio = f"{row.median / fastest.median:.2f}" if fastest else "-"
            found = (
                [f"{row.worth.success:.1%}", f"{row.worth.median:.4f}", str(row.worth.gradients)] if row.worth else []
            )
            label = f"{row.contender.library} {row.contender.version}"
            table.add_row(f"{family}: {row.contender.label}", label, f"{1e3 * row.median:.2f}", ratio, *found)
        table.add_section()
        if fastest is None:
            continue
        limit = TARGET[name] if multiplies_bfloat16(task.x.device) else WITHOUT
        mine = group[0]
        ratio = statistics.median(a / b for a, b in zip(mine.seconds, fastest.seconds, strict=True))
        lines.append(
            f"{'met' if ratio <= limit else 'NOT MET':8} {name} {family}: {ratio:.2f} of the time of "
            f"{fastest.contender.library} (at most {limit})"
        )
        lines += no_worse(family, mine.worth, [row.worth for row in others if row.worth])
    return [(table, lines)]


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    progress = Console(stderr=True)
    torch.set_num_threads(options.threads)
    keep_memory()
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    rounds = 1 if options.quick else options.rounds
    out = Console(record=True, width=150)
    out.print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, "
        f"{'with' if multiplies_bfloat16(torch.device('cpu')) else 'without'} bfloat16 instructions, "
        f"{options.threads} thread(s), {options.clock} time, medians of alternating rounds",
        highlight=False,
    )
    cases = zoo_cases(16 if options.quick else 200, rounds)
    for name in options.tasks:
        progress.print(f"{name}: training the network ...")
        small = name == "cnn"
        task = trained(name, (16 if small else 8) if options.quick else 128 if small else 200, options.quick)
        if not small:
            cases.append(Case(name, task, 2, 20, 2 / 255, rounds=max(1, rounds // 3)))
            task = replace(task, x=task.x[:64], y=task.y[:64])
        task = searched(task)
        form = layout_of(task.layout or task.model.module)
        out.print(f"{name}: robcert searches in {precision_of(task)}, {form}", highlight=False)
        steps = 3 if options.quick else options.steps if small else max(1, options.steps * 2 // 5)
        turns = rounds if small else max(1, rounds // 3)
        out.print(f"{name}: {steps} gradient steps, {turns} rounds", highlight=False)
        rows = measured(task, steps, turns, clock, lambda text, name=name: progress.print(f"{name}: {text} ..."))
        for row in rows:
            progress.print(f"{name}: what {row.contender.library} {row.contender.label} finds ...")
            row.worth = worth(row.contender, task, steps, 3)
        for table, lines in tables(name, task, rows):
            out.print(table)
            out.print("\n".join(lines), highlight=False)
    progress.print("deciding all images ...")
    table, lines = decide_all(cases, clock)
    out.print(table)
    out.print("\n".join(lines), highlight=False)
    print_missing(out)
    if options.write:
        note = "Figures of a GPU are in [Speed](speed.md)."
        write_page(options.write, "Benchmarks", " ".join(["peers.py", *arguments]), out, note)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
