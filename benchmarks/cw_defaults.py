"""What robcert's defaults of cw are worth beside the ones in common use.

    python benchmarks/cw_defaults.py             # the table of docs/attacks.md, about ten minutes on one core
    python benchmarks/cw_defaults.py --quick     # a smoke run: its figures mean little

Both attacks minimise the l2 distance over the zoo's models, with the same number of search steps over c and the same
iterations for each of them. The textbook loop is Carlini & Wagner's as most libraries have it: Adam at one rate, every
image starts at the same c, ten times more after a failure, halved into the bracket after a success. What either finds
is judged in the same way: misclassified by the float32 network, distance in float64. The columns: the share of images
(right without an attack) for which an example was found at all, the median of its distance (infinite where there is
none), accuracy at --eps, and gradients an image.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor

import robcert
from robcert.criteria.misclassified import margin
from robcert.runs.plan import LegPlan

ZOO = ("digits-plain", "digits-at", "digits-l2nnn")
TEXTBOOK = ((0.01, 0.01), (1.0, 0.05))
"""First c and rate: the most common defaults, and the ones that are often recommended in their place."""


@dataclass(frozen=True)
class Result:
    distances: Tensor
    gradients: float
    seconds: float


def textbook(module: torch.nn.Module, x: Tensor, y: Tensor, c: float, rate: float, steps: int, iterations: int):
    """Carlini & Wagner's l2 attack: the distance of the closest misclassified point of each image, (n,)."""
    box = (2 * x - 1) * (1 - 1e-6)
    trade, lower = torch.full((len(x),), c), torch.zeros(len(x))
    upper = torch.full((len(x),), 1e10)
    best = torch.full((len(x),), math.inf, dtype=torch.float64)
    for _ in range(steps):
        w = torch.atanh(box).requires_grad_()
        adam = torch.optim.Adam([w], lr=rate)
        hit = torch.zeros(len(x), dtype=torch.bool)
        for _ in range(iterations):
            point = (torch.tanh(w) + 1) / 2
            logits = module(point)
            loss = (point - x).flatten(1).square().sum(1) + trade * (-margin(logits, y)).clamp_min(0)
            adam.zero_grad()
            loss.sum().backward()
            adam.step()
            fooled = logits.argmax(1) != y
            distance = (point.detach().double() - x.double()).flatten(1).norm(dim=1)
            best = torch.where(fooled & (distance < best), distance, best)
            hit |= fooled
        upper = torch.where(hit, torch.minimum(upper, trade), upper)
        lower = torch.where(hit, lower, torch.maximum(lower, trade))
        trade = torch.where(upper < 1e9, (lower + upper) / 2, trade * 10)
    return best


def ours(model: robcert.LoadedModel, data: robcert.Dataset, eps: float, steps: int, iterations: int) -> Result:
    record = robcert.attack(
        model,
        data,
        robcert.Threat("l2", (eps,)),
        [LegPlan("cw", iterations)],
        goal="minimize",
        certify="none",
        options={"cw": {"search_steps": steps}},
        cpu_threads=1,
    ).models[0]
    images = [image for image in record.images if image.status != "wrong"]
    distances = torch.tensor([math.inf if image.distance is None else image.distance for image in images])
    leg = record.legs[0]
    return Result(distances, leg.backwards / max(1, leg.entered), leg.seconds)


def print_row(cells: list[str]) -> None:
    """A row of a Markdown table, as soon as it is known."""
    print("| " + " | ".join(cells) + " |", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="images (100)")
    parser.add_argument("--eps", type=float, default=0.5, help="budget of the accuracy column (0.5)")
    parser.add_argument("--iterations", default="100,1000", help="iterations of a search step (100,1000)")
    parser.add_argument("--search-steps", default="3,9", help="values of c (3,9)")
    parser.add_argument("--models", default=",".join(ZOO), help="models of the zoo")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args(arguments)
    if options.quick:
        options.n, options.iterations, options.search_steps = min(options.n, 10), "20", "3"
    torch.set_num_threads(1)
    columns = ["model", "c, rate", "search steps", "iterations", "found", "median distance"]
    columns += [f"accuracy at {options.eps:g}", "gradients", "s"]
    print_row(columns)
    print_row(["---"] * 2 + ["---:"] * (len(columns) - 2))
    data = robcert.load_dataset("digits", n=options.n, seed=0)
    for name in options.models.split(","):
        model = robcert.load_model(name)
        with torch.no_grad():
            right = model.module(data.x).argmax(1) == data.y
        x, y = data.x[right], data.y[right]
        for steps in map(int, options.search_steps.split(",")):
            for iterations in map(int, options.iterations.split(",")):
                rows: list[tuple[str, Result]] = []
                for c, rate in TEXTBOOK:
                    begin = time.perf_counter()
                    distances = textbook(model.module, x, y, c, rate, steps, iterations)
                    seconds = time.perf_counter() - begin
                    rows.append((f"{c:g}, {rate:g}", Result(distances, steps * iterations, seconds)))
                rows.append(("robcert", ours(model, data, options.eps, steps, iterations)))
                for label, result in rows:
                    found = result.distances.isfinite().double().mean()
                    # Rounded up, so that a median without an example is infinite.
                    median = result.distances.sort().values[len(result.distances) // 2]
                    standing = (result.distances > options.eps).sum() / len(data)
                    shown = [f"{100 * found:.0f} %", f"{median:.3f}", f"{100 * standing:.1f} %"]
                    spent = [f"{result.gradients:,.0f}", f"{result.seconds:.1f}"]
                    print_row([name, label, str(steps), f"{iterations:,}", *shown, *spent])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
