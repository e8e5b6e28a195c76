"""What an attack costs beyond the network: time per step of robcert and its peers over the bare loop.

    python benchmarks/overhead.py            # a few minutes
    python benchmarks/overhead.py --quick    # a smoke run: the figures mean nothing

The bare loop is `loss(model(x)).sum()` and `torch.autograd.grad` to x, with frozen parameters. One step of it
is run at the same x, and timed apart, before every step of an attack, and a round's ratio is the mean of the
one over the mean of the other: a machine that is shared slows both. What an attack does once (start,
verification) is its own column, in bare steps. A second measurement says what the steps are worth: success
rate and median distance after the same number of gradient steps. Exits 0 whether or not the targets are met.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
from contenders import BASIC, computes_weight_gradients, own, peers
from measure import Row, Target, targets, timings, worth
from rich.console import Console
from show import notes, print_head, print_notes, print_targets, print_timings, print_worth, record
from task import make_task

from robcert.accel.allocator import keep_memory


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    parser.add_argument("--steps", type=int, default=30, help="gradient steps of one timing (30)")
    parser.add_argument("--worth", type=int, default=100, help="what 3 times so many gradient steps are worth (100)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas (1,2)")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, for one thread on a machine that others use",
    )
    parser.add_argument("--batch", type=int, default=128, help="images (128)")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="measure other libraries too"
    )
    parser.add_argument(
        "--unfrozen", action="store_true", help="give the peers a model whose weights require gradients"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run under 30 s")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    try:
        options.threads = [int(part) for part in options.threads.split(",")]
    except ValueError:
        parser.error(f"--threads {options.threads}: expected numbers with commas, e.g. 1,2")
    for name, least in (("rounds", 1), ("steps", 2), ("worth", 1), ("batch", 8)):
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: expected at least {least}")
    if min(options.threads) < 1:
        parser.error(f"--threads {options.threads}: expected at least 1")
    if options.quick:
        options.rounds, options.steps, options.batch = 1, min(options.steps, 5), min(options.batch, 16)
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    progress = Console(stderr=True)
    torch.set_num_threads(max(options.threads))
    keep_memory()  # for the whole process, so for the bare loop and the peers too
    progress.print("training the network ...")
    task = make_task(options.batch, options.quick)
    others, missing = peers(BASIC) if options.peers else ([], [])
    rows = [Row(c, computes_weight_gradients(c, task), {}) for c in own(BASIC) + others]

    judged: list[Target] = []
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    for threads in options.threads:
        torch.set_num_threads(threads)

        def tell(text: str, threads: int = threads) -> None:
            progress.print(f"{threads} thread(s), {text} ...", highlight=False)

        timed = [row for row in rows if row.contender.timed]
        found = timings(
            [row.contender for row in timed], task, options.rounds, options.steps, options.unfrozen, clock, tell
        )
        for row, timing in zip(timed, found, strict=True):
            row.timings[threads] = timing
        judged += targets(rows, threads)

    torch.set_num_threads(min(options.threads))
    steps, searches = (5, 2) if options.quick else (options.worth, 3)
    for row in rows:
        if row.contender.judged:
            progress.print(f"what the steps of {row.contender.library} {row.contender.label} are worth ...")
            row.worth = worth(row.contender, task, steps, searches)

    if options.json:
        print(json.dumps(record(vars(options), task, rows, judged, missing), indent=1))
        return 0
    console = Console(width=max(170, Console().width))
    texts, numbers = notes(rows)
    print_head(console, task, options.unfrozen)
    print_timings(console, rows, numbers, options.clock)
    print_notes(console, texts)
    print_worth(console, rows, steps, searches)
    print_targets(console, judged, missing, options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
