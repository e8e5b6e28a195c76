"""Whether a run with several budgets breaks at each of them what a run with that budget alone breaks.

On two networks of other hands (ROBCERT_FOREIGN, ROBCERT_DATA: provable_mnist_linf01 and resnet2b_cifar10, linf) and
digits-at (l2). Differences are listed by image; the exit status is 1 where they are more than 1 % of the images at some
budget. The last columns are the backwards of the run with all budgets and of the runs apart.
"""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import robcert
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.runs.summary import as_list
from robcert.types import Dataset, LoadedModel, Threat, ThreatNorm


@dataclass(frozen=True)
class Case:
    """A network, its data, and what it is attacked with."""

    reference: str
    data: str
    norm: ThreatNorm
    eps: tuple[float, ...]
    plan: str
    options: dict[str, Any]
    foreign: bool = True


_CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616), "input_shape": (3, 32, 32)}
CASES = (
    Case(
        "provable_mnist_linf01.pth", "mnist", "linf", (0.05, 0.1, 0.15), "pgd:20 + cw:20",
        {"arch": "architectures:cnn_a", "input_shape": (1, 28, 28)},
    ),
    Case(
        "resnet2b_cifar10.pth", "cifar10-jpeg/test.tar.gz", "linf", (1 / 255, 2 / 255, 4 / 255), "pgd:20 + cw:20",
        {"arch": "architectures:resnet2b", "num_classes": 10, **_CIFAR},
    ),
    Case("digits-at", "digits", "l2", (0.3, 0.6, 1.0), "cw:50 + pgd:20", {}, foreign=False),
)  # fmt: skip


def images(name: str, n: int) -> Dataset:
    """The images by their name, or of an archive of class folders in ROBCERT_DATA."""
    if not name.endswith(".tar.gz"):
        return load_dataset(name, n=n)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(Path(os.environ["ROBCERT_DATA"]) / name) as archive:
        archive.extractall(folder, filter="data")
        return load_dataset(f"folder:{folder}", n=n)


def broken(record: robcert.RunRecord, k: int = 0) -> set[int]:
    """The images that are broken at the k-th budget."""
    return {image.index for image in record.models[0].images if as_list(image.status)[k] == "broken"}


def compare(case: Case, model: LoadedModel, data: Dataset, plan: str) -> float:
    """Print a row a budget; the largest share of images that only the run with one budget breaks."""
    fixed: dict[str, Any] = {"certify": "none", "search_precision": "float32", "cpu_threads": 1}
    several = robcert.attack(model, data, Threat(case.norm, case.eps), plan, **fixed)
    alone = [robcert.attack(model, data, Threat(case.norm, (eps,)), plan, **fixed) for eps in case.eps]
    together, apart = (sum(m.spent.backwards for r in runs for m in r.models) for runs in ([several], alone))
    worst = 0.0
    for k, (eps, one) in enumerate(zip(case.eps, alone, strict=True)):
        missed, more = sorted(broken(one) - broken(several, k)), sorted(broken(several, k) - broken(one))
        worst = max(worst, len(missed) / len(data))
        counts = f"{len(broken(one)):>6} {len(broken(several, k)):>8}"
        print(
            f"{model.name:<24} {case.norm:<5} {eps:<8.4g} {len(data):>4} {counts}   missed {missed or '-'}; "
            f"more {more or '-'}",
            flush=True,
        )
    print(f"{model.name:<24} {plan}: backwards {together:,} in one run, {apart:,} in {len(alone)} runs", flush=True)
    return worst


def main() -> int:
    """Compare all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--plan", help="instead of that of each case")
    parser.add_argument("--only", help="a part of a network's name")
    asked = parser.parse_args()
    folder = os.environ.get("ROBCERT_FOREIGN")
    if folder:
        sys.path.insert(0, folder)
    print(f"{'network':<24} {'norm':<5} {'eps':<8} {'n':>4} {'alone':>6} {'together':>8}")
    worst = 0.0
    for case in CASES:
        if asked.only and asked.only not in case.reference:
            continue
        if case.foreign and not folder:
            print(f"{case.reference}: left out, ROBCERT_FOREIGN is not set")
            continue
        path = str(Path(folder or "") / case.reference) if case.foreign else case.reference
        data = images(case.data, asked.n)
        model = load_model(path, **case.options)
        worst = max(worst, compare(case, model, data, asked.plan or case.plan))
    print(f"largest share of images that only a run with that eps alone breaks: {100 * worst:.2f} %")
    return 1 if worst > 0.01 else 0


if __name__ == "__main__":
    sys.exit(main())
