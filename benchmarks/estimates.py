"""The estimate of `robcert attack --dry-run` beside the run itself: CPU and wall seconds of plans on models of the zoo.

    python benchmarks/estimates.py --n 48

Both are commands of their own, each in a fresh process, and what is compared is the CPU time of the whole command, as
the operating system counts it. The estimate should hold the run, and be at most a factor of 3 wide. On a machine with
other work the wall clock says little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

PLANS = ("cw:100,1k", "pgd:100x5", "strong", "autoattack", "fast")
MODELS = {"digits-plain": ("l2", "0.5"), "digits-at": ("l2", "0.5"), "mnist-at": ("linf", "0.1")}


def main() -> None:
    """Print a row a model and plan."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=48, help="images of each run")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--plans", default=" ".join(PLANS), help="separated by spaces")
    parser.add_argument("--eps", help="budgets, in place of the model's own")
    parser.add_argument("--most", type=float, default=240.0, help="CPU seconds: what is told to take longer is not run")
    given = parser.parse_args()
    print(f"n = {given.n}, seconds")
    print(
        "| model | plan | told, CPU | before the first leg | run, CPU | inside | width | estimate, wall | run, wall |"
    )
    print("|" + " --- |" * 9)
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models.split(","):
            norm, eps = MODELS[name]
            for plan in given.plans.split():
                asked = ["attack", name, "--norm", norm, "--eps", given.eps or eps, "--plan", plan, "--n", str(given.n)]
                file = Path(folder) / "estimate.json"
                _robcert([*asked, "--dry-run", "--format", "json", "--output", str(file)])
                told = json.loads(file.read_text())
                low, high = told["seconds"]
                before = told["loading"] + told["models"][0]["start"]
                cpu, wall, inside = "-", "-", "not run"
                if low <= given.most:
                    took = _robcert([*asked, "--run", str(Path(folder) / f"{name} {plan}".replace(":", "-"))])
                    cpu, wall = (f"{seconds:.1f}" for seconds in took)
                    inside = "yes" if low <= took[0] <= high else "no"
                cells = [name, plan, _range(told["seconds"]), f"{before:.1f}", cpu, inside, f"{high / low:.1f}"]
                print("| " + " | ".join([*cells, _range(told["wall"]), wall]) + " |", flush=True)


def _range(ends: list[float]) -> str:
    return f"{ends[0]:.1f} to {ends[1]:.1f}"


def _robcert(arguments: list[str]) -> tuple[float, float]:
    """Run a command; CPU and wall seconds of its process."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "robcert", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(said.decode())
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began


if __name__ == "__main__":
    main()
