"""The estimate of `robcert attack --dry-run` beside the run itself: CPU and wall seconds of plans on models of the zoo.

    python benchmarks/estimates.py --n 48

The estimate should hold the run, and be at most a factor of 3 wide. Both times are of this process; on a machine with
other work the wall clock says little, which is why both are printed.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser

import robcert
from robcert.runs.api import estimate

PLANS = ("cw:100,1k", "pgd:100x5", "strong", "autoattack", "fast")
MODELS = {
    "digits-plain": ("digits", "l2", 0.5),
    "digits-at": ("digits", "l2", 0.5),
    "mnist-at": ("mnist", "linf", 0.1),
}


def main() -> None:
    """Print a row a model and plan."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=48, help="images of each run")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--plans", default=" ".join(PLANS), help="separated by spaces")
    given = parser.parse_args()
    print(f"n = {given.n}, seconds")
    print("| model | plan | estimate, CPU | run, CPU | inside | width | estimate, wall | run, wall |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in given.models.split(","):
        images, norm, eps = MODELS[name]
        model = robcert.load_model(name)
        data = robcert.load_dataset(images, n=given.n)
        threat = robcert.Threat(norm, (eps,), data.box)
        for plan in given.plans.split():
            told = estimate(model, data, threat, plan).models[0]
            cpu, wall = time.process_time(), time.monotonic()
            robcert.attack(model, data, threat, plan)
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            low, high = told.seconds
            inside = "yes" if low <= cpu <= high else "no"
            print(
                f"| {name} | {plan} | {low:.1f} to {high:.1f} | {cpu:.1f} | {inside} | {high / low:.1f} | "
                f"{told.wall[0]:.0f} to {told.wall[1]:.0f} | {wall:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
