"""The plans `autoattack` and `strong` beside AutoAttack itself, on the same images.

    python benchmarks/plans.py                 # three zoo models, two norms, 200 images each
    python benchmarks/plans.py --n 16 --norms linf     # a smoke run

AutoAttack (Croce & Hein 2020) is put together from the parts of torchattacks with its published budgets (100 steps,
nine targets, 5,000 queries; `torchattacks.AutoAttack` takes 10 steps), on images that the network gets right; what it
returns is judged like robcert's own examples: box, distance in float64, answer in float32. Gradient steps are counted
in images: one for every image of every call that records a graph.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from robcert import attack
from robcert.attacks.objectives import margin
from robcert.data import load_dataset
from robcert.engine.allocator import keep_memory
from robcert.math.norms import distance
from robcert.network import load_model
from robcert.types import Dataset, LoadedModel, Norm, Threat

EPS: dict[Norm, float] = {"linf": 0.08, "l2": 0.5}
NEAR = 0.005
"""Attacked accuracies may differ by this much (half a point)."""


class Counted(nn.Module):
    """Passes calls on; counts the images of those that record a graph."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.images = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            self.images += len(x)
        return self.inner(x)


@dataclass(frozen=True)
class Result:
    """Which images were broken, gradient steps in images, seconds."""

    by: str
    broken: Tensor
    backwards: int
    seconds: float


def auto_attack(model: LoadedModel, data: Dataset, norm: Norm) -> Result:
    """AutoAttack of torchattacks."""
    import torchattacks

    counted = Counted(model.module).eval()
    began = time.process_time()
    name = {"linf": "Linf", "l2": "L2"}[norm]
    common: dict[str, Any] = {"norm": name, "eps": EPS[norm], "seed": 0, "n_restarts": 1}
    classes = {"n_classes": model.num_classes}
    attacker = torchattacks.MultiAttack(
        [
            torchattacks.APGD(counted, steps=100, loss="ce", **common),
            torchattacks.APGDT(counted, steps=100, **classes, **common),
            torchattacks.FAB(counted, steps=100, multi_targeted=True, **classes, **common),
            torchattacks.Square(counted, n_queries=5000, **common),
        ]
    )
    found = attacker(data.x, data.y).detach().clamp(0, 1)
    seconds = time.process_time() - began
    with torch.no_grad():
        fooled = margin(model.module(found), data.y) > 0
    inside = distance(found, data.x, norm) <= EPS[norm] * (1 + 1e-5)  # it lands this far outside by rounding
    version = importlib.metadata.version("torchattacks")
    return Result(f"AutoAttack (torchattacks {version})", fooled & inside, counted.images, seconds)


def own(model: LoadedModel, data: Dataset, norm: Norm, plan: str) -> Result:
    """A plan of robcert, without certificates."""
    began = time.process_time()
    record = attack(
        model, data, Threat(norm, (EPS[norm],)), plan, certify="none", cpu_threads=torch.get_num_threads()
    ).models[0]
    broken = torch.tensor([image.status == "broken" for image in record.images])
    spent = sum(leg.backwards for leg in record.legs)
    return Result(f"--plan {plan}", broken, spent, time.process_time() - began)


def right(model: LoadedModel, name: str, n: int) -> Dataset:
    """Test images that the network gets right."""
    data = load_dataset(name, n=n)
    with torch.no_grad():
        good = model.module(data.x).argmax(1) == data.y
    return replace(data, x=data.x[good], y=data.y[good], index=data.index[good])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="images (200)")
    parser.add_argument("--models", default="digits-plain,digits-at,digits-l2nnn", help="models of the zoo")
    parser.add_argument("--data", default="digits", help="data set (digits)")
    parser.add_argument("--norms", default="linf,l2", help="linf, l2 or both (both)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    console = Console(width=120)
    table = Table(title=f"Accuracy under attack, {options.data}, CPU seconds of one thread")
    for column in ("model", "eps", "by", "accuracy", "only it broke", "only AutoAttack broke", "backwards", "seconds"):
        table.add_column(column, justify="left" if column in ("model", "eps", "by") else "right")
    lines: list[str] = []
    for name in options.models.split(","):
        model = load_model(name)
        data = right(model, options.data, options.n)
        for norm in options.norms.split(","):
            peer = auto_attack(model, data, norm)
            ours = {plan: own(model, data, norm, plan) for plan in ("autoattack", "strong")}
            for result in (peer, *ours.values()):
                accuracy = 1 - float(result.broken.double().mean())
                more, fewer = int((result.broken & ~peer.broken).sum()), int((~result.broken & peer.broken).sum())
                table.add_row(
                    name, f"{norm} {EPS[norm]}", result.by, f"{accuracy:.1%}", str(more), str(fewer),
                    f"{result.backwards:,}", f"{result.seconds:.1f}",
                )  # fmt: skip
            table.add_section()
            lost = {plan: int(peer.broken.sum()) - int(result.broken.sum()) for plan, result in ours.items()}
            near = abs(lost["autoattack"]) <= NEAR * len(data)
            share = ours["strong"].backwards / max(1, peer.backwards)
            strong = lost["strong"] <= 0 and share <= 0.5
            lines += [
                f"{'met' if near else 'NOT MET':8} {name} {norm}: autoattack within half a point of AutoAttack "
                f"({-lost['autoattack']:+d} images of {len(data)})",
                f"{'met' if strong else 'NOT MET':8} {name} {norm}: strong not above it "
                f"({-lost['strong']:+d} images) at no more than half its backwards ({share:.2f})",
            ]
    console.print(table)
    console.print("\n".join(lines), highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
