"""What certificates cost: bounds in bare forwards, alpha-CROWN and branch and bound in nodes a second.

    python benchmarks/certify.py                    # mnist-at where it is, else the same network with random weights
    python benchmarks/certify.py --eps 0.05 --l2 0.5
    git worktree add ../before REVISION
    python benchmarks/certify.py --before ../before # the same in both trees, in turns, and the ratios

One batch of eight images, all margins of all of them, one thread, CPU seconds: a measured bound of intervals (IBP),
CROWN-IBP and CROWN in l-infinity and l2, each over the mean of many bare float32 forwards of the same batch in between,
on the convolutional network of the MNIST zoo (215,370 parameters). Memory is the largest resident size of a fresh
process that bounds one batch, less that of one which runs the network.

A node of alpha-CROWN is a ball of that network, all of whose margins are bounded with 20 iterations; one of branch and
bound is a subproblem. Branch and bound runs on a ReLU network of random weights, on a margin that it does not decide in
its time, and no point counts as an example: so every version does nothing but bound. What it spends on choosing where
to split is in the time.

Targets: IBP at most 10 forwards; CROWN at most 1,500 (l-infinity) and 3,500 (l2), which is what auto_LiRPA 0.6 was
measured at, the aim is a fifth; below 0.5 GB. The last lines say which are met. The exit code is 0 either way.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from robcert.accel.allocator import keep_memory
from robcert.bounds.linear.bounds import Mode
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.certificates.bab_search import decide
from robcert.certificates.margins import ITERATIONS, margins, pairs
from robcert.data import load_dataset
from robcert.errors import RobcertError
from robcert.network import from_module, load_model
from robcert.nn.cnn import cnn
from robcert.types import BoundNorm, LoadedModel

BATCH = 8
LIMITS = {"ibp linf": 10.0, "ibp l2": 10.0, "crown linf": 1500.0, "crown l2": 3500.0}
MEMORY = 0.5
MODES: tuple[Mode, ...] = ("ibp", "crown-ibp", "crown")


def network() -> LoadedModel:
    """mnist-at, or its architecture."""
    try:
        return load_model("mnist-at")
    except RobcertError:
        torch.manual_seed(0)
        module = cnn((1, 28, 28), 10, channels=(16, 32), hidden=(128,), kernel=5)
        return from_module(module, (1, 28, 28), 10, name="random weights")


def images() -> torch.Tensor:
    """Eight test images, or noise where MNIST is not here."""
    try:
        return load_dataset("mnist", n=BATCH).x
    except RobcertError:
        return torch.rand(BATCH, 1, 28, 28)


def seconds(function: Callable[[], object], least: float) -> float:
    """CPU seconds of one call, over at least so many seconds."""
    function()
    start, calls = time.process_time(), 0
    while time.process_time() - start < least:
        function()
        calls += 1
    return (time.process_time() - start) / calls


def bound(model: LoadedModel, x: torch.Tensor, mode: Mode, norm: BoundNorm, eps: float, alpha: int = 0) -> torch.Tensor:
    """All margins of a batch."""
    around = region(x, torch.full((len(x),), eps, dtype=torch.float64), norm, model.box)
    with torch.no_grad():
        y = model.module(x).argmax(dim=1)
    return margins(program(model), around, y, mode, alpha=alpha).smallest


def costs(model: LoadedModel, x: torch.Tensor, budgets: dict[BoundNorm, float], least: float) -> dict[str, float]:
    """Forwards that each bound takes, by its name and norm."""

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model.module(x)

    found: dict[str, float] = {}
    for norm, eps in budgets.items():
        for mode in MODES:
            before = seconds(forward, least)
            many = 5 * least if mode == "crown" else least
            taken = seconds(lambda m=mode, k=norm, e=eps: bound(model, x, m, k, e), many)
            found[f"{mode} {norm}"] = taken / ((before + seconds(forward, least)) / 2)
    return found


def speeds(model: LoadedModel, x: torch.Tensor, eps: float, least: float) -> dict[str, float]:
    """Nodes a second of alpha-CROWN and of branch and bound."""
    once = seconds(lambda: bound(model, x[:1], "crown", "linf", eps, ITERATIONS), 5 * least)
    torch.manual_seed(0)
    layers = [nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)]
    random = from_module(nn.Sequential(*layers), (64,), 10, name="random weights")
    around = region(torch.full((1, 64), 0.5), torch.tensor([0.4]), "linf", random.box)
    row = pairs(torch.tensor([0]), 10)[0, 1]
    began = time.process_time()
    outcome = decide(program(random), around, row, 0.0, lambda points: torch.ones(len(points)), seconds=10 * least)
    assert outcome.status == "open", "the margin is decided before the time is up"
    return {"alpha-crown": 1 / once, "branch and bound": outcome.nodes / (time.process_time() - began)}


def resident(arguments: list[str]) -> float:
    """The largest resident size of a fresh process, in GB."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def compared(before: Path, options: argparse.Namespace) -> None:
    """Print the figures of another tree and of this one, measured in turns, and the median of the ratios."""
    here = Path(__file__).resolve()
    asked = ["--worker", "--eps", str(options.eps), "--l2", str(options.l2), "--least", str(options.least)]
    rounds: list[list[dict[str, float]]] = []
    for turn in range(options.rounds):
        trees = [before.resolve(), here.parents[1]]
        found: dict[Path, dict[str, float]] = {}
        for tree in trees if turn % 2 == 0 else trees[::-1]:
            environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, str(here), *asked], stdout=subprocess.PIPE, text=True, check=True, env=environment
            )
            found[tree] = json.loads(done.stdout.splitlines()[-1])
        rounds.append([found[tree] for tree in trees])
    table = Table()
    for column in ("", "before", "now", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name in rounds[0][0]:
        both = [(first[name], second[name]) for first, second in rounds]
        first, second, ratio = (
            statistics.median(values) for values in (*zip(*both, strict=True), [now / then for then, now in both])
        )
        table.add_row(name, f"{first:.4g}", f"{second:.4g}", f"{ratio:.2f}")
    Console(width=100).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eps", type=float, default=0.05, help="of l-infinity (default 0.05)")
    parser.add_argument("--l2", type=float, default=0.5, help="of l2 (default 0.5)")
    parser.add_argument("--least", type=float, default=1.0, help="seconds of a measurement (default 1)")
    parser.add_argument("--before", type=Path, help="another checkout of robcert")
    parser.add_argument("--rounds", type=int, default=3, help="with --before (default 3)")
    parser.add_argument("--memory", choices=["bare", "linf", "l2"], help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.before is not None:
        compared(options.before, options)
        return 0
    torch.set_num_threads(1)
    keep_memory()  # as `robcert certify` does
    model, x = network(), images()
    budgets: dict[BoundNorm, float] = {"linf": options.eps, "l2": options.l2}
    if options.memory:
        program(model)
        with torch.no_grad():
            model.module(x)
        if options.memory != "bare":
            bound(model, x, "crown", options.memory, budgets[options.memory])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return 0
    forwards = costs(model, x, budgets, options.least)
    nodes = speeds(model, x, options.eps, options.least)
    if options.worker:
        said = {f"{name}, forwards": value for name, value in forwards.items()}
        print(json.dumps(said | {f"{name}, nodes a second": value for name, value in nodes.items()}))
        return 0
    entries = sum(p.numel() for p in model.module.parameters())
    print(f"{model.name}, {entries:,} parameters, batch {BATCH}, float64 bounds of {10 * BATCH} margins, one thread")
    for name, value in forwards.items():
        limit = LIMITS.get(name)
        said = "" if limit is None else f", at most {limit:g}: {'met' if value <= limit else 'missed'}"
        print(f"{name}: {value:.4g} forwards{said}")
    for name, value in nodes.items():
        print(f"{name}: {value:.4g} nodes a second")
    bare = resident(["--memory", "bare"])
    for norm in budgets:
        extra = resident(["--memory", norm, "--eps", str(options.eps), "--l2", str(options.l2)]) - bare
        print(f"crown {norm}: {extra:.2f} GB, below {MEMORY} GB: {'met' if extra < MEMORY else 'missed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
