"""Time per step on a GPU, over the bare loop as a CUDA graph, and how long a million iterations take.

    python benchmarks/gpu.py                    # on a GPU if there is one, else on the CPU, which it then says
    python benchmarks/gpu.py --quick            # a smoke run: the figures mean nothing
    python benchmarks/gpu.py --no-peers --json > gpu.json

The bare loop is `loss(model(x)).sum()` and `torch.autograd.grad` to x, with frozen parameters, replayed from a CUDA
graph of ten: the least that a gradient step can cost as torch computes it. Beside it run, in alternating rounds, the
same loop fused by a compiler and launched from Python; robcert's attacks captured (what a run does), captured and
fused (what it does after 20,000 steps) and launched; and the attacks of other libraries, which launch. robcert's
figure is the time of n steps of a long leg, with all its looks; that of another library is the time of 3 n steps less
that of n, over 2 n. What happens once (start, capture, compilation, verification) is in neither. Nothing breaks at the
budget, so every image takes every step. Then one leg of a million cw iterations is begun on 1,000 images, and its time
extrapolated from those that were measured. All in float32, without TF32. Exits 0 whether or not the target is met.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from dataclasses import asdict

import torch
from contender import Missing
from operators import operators
from per_step import LONG, LOOK, Long, Row, measured, million, sized
from rich.console import Console
from rich.table import Table
from task import make_task

from robcert.accel.allocator import keep_memory
from robcert.network.float32 import exactly_float32

LIMIT = 1.15
"""The most that a captured step may cost, in captured bare steps."""
IMAGES = 1_000


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", help="cuda, cuda:1, cpu (cuda where there is one)")
    parser.add_argument("--batch", default="16,128,1024", help="images at once, with commas (16,128,1024)")
    parser.add_argument("--steps", type=int, help="n, a multiple of 10 (50; on a CPU 10)")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    parser.add_argument("--watched", type=int, help="iterations of the long leg that are run (10,000; on a CPU 40)")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="other libraries too")
    parser.add_argument("--quick", action="store_true", help="a smoke run under a minute")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    options.device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if options.device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch {torch.__version__} sees no GPU")
    on_gpu = options.device.type == "cuda"
    options.steps = options.steps or (50 if on_gpu else 10)
    options.watched = options.watched or (10_000 if on_gpu else 40)
    options.images = IMAGES
    if options.quick:
        options.batch, options.steps, options.rounds, options.watched, options.images = "16", 10, 1, 40, 32
    try:
        options.batch = [int(part) for part in options.batch.split(",")]
    except ValueError:
        parser.error(f"--batch {options.batch}: expected numbers with commas, e.g. 16,128")
    for name in ("steps", "watched"):
        if getattr(options, name) < LOOK or getattr(options, name) % LOOK:
            parser.error(f"--{name} {getattr(options, name)}: expected a multiple of {LOOK}")
    if options.rounds < 1 or min(options.batch) < 8:
        parser.error("expected at least one round, and at least 8 images at once")
    return options


def show(
    console: Console,
    rows: list[Row],
    counts: dict[str, int],
    long: Long,
    missing: list[Missing],
    options: argparse.Namespace,
) -> None:
    on_gpu = options.device.type == "cuda"
    name = torch.cuda.get_device_name(options.device) if on_gpu else f"a CPU ({platform.machine()})"
    console.print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} CPU thread(s)", highlight=False)
    if not on_gpu:
        console.print("No GPU: these are a CPU's figures, of steps that are launched; a GPU's are missing.")
    table = Table(title=f"Time per gradient step: medians of {options.rounds} alternating rounds")
    for column in ("batch", "attack", "steps", "ms", "over the bare loop", "least-most"):
        table.add_column(column, justify="left" if column in ("attack", "steps") else "right", no_wrap=True)
    for row in rows:
        ms = 1e3 * statistics.median(row.seconds)
        spread = f"{min(row.over):.2f}-{max(row.over):.2f}"
        table.add_row(str(row.batch), row.what, row.how, f"{ms:.3f}", f"{row.ratio:.2f}", spread)
    console.print(table)
    for what, how, reason in sorted({(row.what, row.how, row.refused) for row in rows if row.refused is not None}):
        console.print(f"{what} was not {how}: {reason}", highlight=False)
    compiling = [row.compiling for row in rows if row.compiling is not None]
    if compiling:
        console.print(f"compiling, once: {min(compiling):.1f} to {max(compiling):.1f} s", highlight=False)
    listed = ", ".join(f"{what} {count}" for what, count in counts.items())
    console.print(f"operators a step, each at least one kernel on a GPU: {listed}", highlight=False)
    for peer in missing:
        console.print(f"not installed: {peer.library} ({peer.reason})", highlight=False)
    console.print(
        f"{LONG:,} iterations of cw on {long.images:,} images: {long.hours:.1f} hours, extrapolated from "
        f"{long.watched:,} iterations of {1e3 * long.seconds:.3f} ms, {long.how}",
        highlight=False,
    )
    if options.quick:
        console.print("A smoke run: the figures mean nothing.")
    elif on_gpu:
        own = [row for row in rows if row.how == "fused" and row.what.startswith("robcert")]
        worst = max(row.ratio for row in own)
        met = worst <= LIMIT and not any(row.refused for row in own)
        verdict = "met" if met else "NOT met"
        console.print(
            f"Target {LIMIT} over the captured bare loop: {verdict}, the slowest fused attack takes {worst:.2f}"
        )
    else:
        console.print(f"Target {LIMIT} over the captured bare loop: not measured, there is no GPU.")


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    progress = Console(stderr=True)
    keep_memory()
    exactly_float32(options.device)
    progress.print("training the network ...")
    task = make_task(64 if options.quick else 256, options.quick)

    def tell(text: str) -> None:
        progress.print(f"{text} ...", highlight=False)

    rows: list[Row] = []
    missing: list[Missing] = []
    for batch in options.batch:
        at_once = sized(task, batch, options.device)
        found, missing = measured(at_once, options.steps, options.rounds, options.peers, tell)
        rows += found
        tell("; ".join(f"{row.what} {row.how} {row.ratio:.2f}" for row in found))
    tell(f"{options.watched} of a million iterations on {options.images} images")
    long = million(sized(task, options.images, options.device), options.watched)
    counts = operators(sized(task, 16, options.device))
    if options.json:
        head = {"device": str(options.device), "gpu": options.device.type == "cuda", "torch": torch.__version__}
        body = [asdict(row) | {"ratio": row.ratio} for row in rows]
        record = {**head, "quick": options.quick, "steps": body, "operators": counts}
        record |= {"million": asdict(long) | {"hours": long.hours}, "missing": [asdict(peer) for peer in missing]}
        print(json.dumps(record, indent=1))
        return 0
    show(Console(width=max(140, Console().width)), rows, counts, long, missing, options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
