"""What certificates cost beside a bare forward, on the convolutional network of the MNIST zoo (215,370 parameters).

    python benchmarks/certify.py                    # mnist-at where it is, else the same network with random weights
    python benchmarks/certify.py --eps 0.05 --l2 0.5

One batch of eight images, all margins of all of them, one thread, CPU seconds: a measured bound of intervals (IBP),
CROWN-IBP and CROWN in l-infinity and l2, each over the mean of many bare float32 forwards of the same batch in between.
Memory is the largest resident size of a fresh process that bounds one batch, less that of one which runs the network.

Targets: IBP at most 10 forwards; CROWN at most 1,500 (l-infinity) and 3,500 (l2), which is what auto_LiRPA 0.6 was
measured at, the aim is a fifth; below 0.5 GB. The last lines say which are met. The exit code is 0 either way.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from robcert.accel.allocator import keep_memory
from robcert.bounds.linear.bounds import Mode
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.certificates.margins import margins
from robcert.data import load_dataset
from robcert.errors import RobcertError
from robcert.network import from_module, load_model
from robcert.nn.cnn import cnn
from robcert.types import BoundNorm, LoadedModel

BATCH = 8
LIMITS = {("ibp", "linf"): 10.0, ("ibp", "l2"): 10.0, ("crown", "linf"): 1500.0, ("crown", "l2"): 3500.0}
MEMORY = 0.5


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


def bound(model: LoadedModel, x: torch.Tensor, mode: Mode, norm: BoundNorm, eps: float) -> torch.Tensor:
    """All margins of a batch."""
    around = region(x, torch.full((len(x),), eps, dtype=torch.float64), norm, model.box)
    with torch.no_grad():
        y = model.module(x).argmax(dim=1)
    return margins(program(model), around, y, mode).smallest


def resident(arguments: list[str]) -> float:
    """The largest resident size of a fresh process, in GB."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eps", type=float, default=0.05, help="of l-infinity (default 0.05)")
    parser.add_argument("--l2", type=float, default=0.5, help="of l2 (default 0.5)")
    parser.add_argument("--memory", choices=["bare", "linf", "l2"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # as `robcert certify` does
    model, x = network(), images()
    budgets: dict[BoundNorm, float] = {"linf": options.eps, "l2": options.l2}

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model.module(x)

    if options.memory:
        program(model)
        forward() if options.memory == "bare" else bound(model, x, "crown", options.memory, budgets[options.memory])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return 0
    entries = sum(p.numel() for p in model.module.parameters())
    print(f"{model.name}, {entries:,} parameters, batch {BATCH}, float64 bounds of {10 * BATCH} margins, one thread")
    table = Table()
    for column in ("method", "norm", "eps", "ms", "forwards", "certified"):
        table.add_column(column, justify="left" if column in ("method", "norm") else "right")
    notes: list[str] = []
    base = str(options.eps), str(options.l2)
    bare = resident(["--memory", "bare"])
    for norm, eps in budgets.items():
        for mode in ("ibp", "crown-ibp", "crown"):
            before = seconds(forward, 1.0)
            taken = seconds(lambda m=mode, k=norm, e=eps: bound(model, x, m, k, e), 1.0 if mode != "crown" else 5.0)
            once = (before + seconds(forward, 1.0)) / 2
            held = int((bound(model, x, mode, norm, eps) > 0).sum())
            table.add_row(mode, norm, f"{eps:g}", f"{1000 * taken:.4g}", f"{taken / once:.4g}", f"{held} of {BATCH}")
            limit = LIMITS.get((mode, norm))
            if limit is not None:
                said = "met" if taken / once <= limit else "missed"
                notes.append(f"{mode} {norm}: {taken / once:.4g} forwards, at most {limit:g}: {said}")
        extra = resident(["--memory", norm, "--eps", base[0], "--l2", base[1]]) - bare
        notes.append(f"crown {norm}: {extra:.2f} GB, below {MEMORY} GB: {'met' if extra < MEMORY else 'missed'}")
    Console(width=100).print(table)
    print("\n".join(notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
