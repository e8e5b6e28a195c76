"""How much of what is certified in real arithmetic holds for the network as float32 executes it, on foreign networks.

    ROBCERT_FOREIGN=... ROBCERT_DATA=... python benchmarks/executed.py -n 200 --before ../before
    python benchmarks/executed.py -n 20 --networks resnet2b --methods gap crown

Each network of ROBCERT_FOREIGN at a small, a middle and a large l-infinity radius, by each method: images that are
answered right, certified as executed, certified in real arithmetic, the same by another checkout of robcert, and CPU
seconds. ``gap`` has radii of its own, since its bounds are global. The exit code is 1 where the executed count is
below 99 % of the real one, the real one below that of the other checkout, or at the small radius not above 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES = Path(os.environ.get("ROBCERT_FOREIGN", "."))
METHODS = ("gap", "crown", "best")
SECONDS = 2.0
"""For `best`, an image."""


@dataclass(frozen=True)
class Network:
    """A file, how it is loaded, and its radii.

    Attributes:
        file: in ROBCERT_FOREIGN.
        arch: the factory; None where the file holds the network.
        data: mnist or cifar.
        eps: small, middle, large.
        gap: the same for the gap.
        normalisation: mean and std, of one channel or of three.
    """

    file: str
    arch: str | None
    data: str
    eps: tuple[float, float, float]
    gap: tuple[float, float, float]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None


_CIFAR = (0.4914, 0.4822, 0.4465)
NETWORKS = {
    "provable_mnist": Network("provable_mnist_linf01.pth", "cnn_a", "mnist", (0.05, 0.1, 0.12), (1e-4, 3e-4, 6e-4)),
    "cnn_a_adv": Network("cnn_a_adv_mnist_linf03.pth", "cnn_a", "mnist", (0.05, 0.1, 0.15), (1e-4, 2e-4, 5e-4)),
    "mlp_6x100": Network("mlp_6x100_mnist.pth", "mlp_6x100", "mnist", (0.005, 0.01, 0.015), (1e-5, 3e-5, 1e-4)),
    "colt_mnist": Network(
        "colt_mnist_01_unnormalised.onnx", None, "mnist", (0.05, 0.08, 0.1), (1e-4, 3e-4, 6e-4), ((0.1307,), (0.3081,))
    ),
    "resnet2b": Network(
        "resnet2b_cifar10.pth", "resnet2b", "cifar", (1 / 255, 2 / 255, 3 / 255), (1e-6, 3e-6, 1e-5),
        (_CIFAR, (0.2471, 0.2435, 0.2616)),
    ),
    "sigmoid": Network(
        "conv_small_sigmoid_cifar10.pth", "conv_small_sigmoid", "cifar", (1 / 255, 2 / 255, 4 / 255),
        (1e-6, 1e-5, 1e-4), (_CIFAR, (0.2023, 0.1994, 0.2010)),
    ),
}  # fmt: skip


def load(name: str, n: int) -> tuple[Any, Any, Any]:
    """The network, n images and their labels."""
    from robcert.data import load_dataset
    from robcert.network import load_model

    one = NETWORKS[name]
    sys.path.insert(0, str(FILES))
    if one.data == "mnist":
        data = load_dataset("mnist", n=n)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _unpack(Path(os.environ["ROBCERT_DATA"], "cifar10-jpeg", "test.tar.gz"), Path(folder), n)
            data = load_dataset(f"folder:{folder}", n=n)
    arch = None if one.arch is None else f"architectures:{one.arch}"
    mean, std = one.normalisation or (None, None)
    return load_model(FILES / one.file, arch=arch, mean=mean, std=std, images=data.x), data.x, data.y


def _unpack(archive: Path, folder: Path, n: int) -> None:
    """The first pictures of each class."""
    taken: Counter[str] = Counter()
    with tarfile.open(archive) as packed:
        for member in packed:
            kind = Path(member.name).parent.name
            if member.isfile() and taken[kind] < (n + 9) // 10:
                taken[kind] += 1
                (folder / kind).mkdir(parents=True, exist_ok=True)
                content = packed.extractfile(member)
                assert content is not None
                (folder / kind / Path(member.name).name).write_bytes(content.read())


def measured(names: list[str], methods: list[str], n: int) -> None:
    """Print a line of JSON for each network, method and radius, with the robcert that is imported here."""
    import torch

    from robcert.certificates import Search, certificates

    torch.set_num_threads(1)
    for name in names:
        model, x, y = load(name, n)
        for method in methods:
            radii = NETWORKS[name].gap if method == "gap" else NETWORKS[name].eps
            for eps in radii:
                began = time.process_time()
                search = Search(eps=(eps,), largest=False, seconds=SECONDS if method == "best" else None)
                found = certificates.get(method)(model, x, y, "linf", search)
                counts = [int((r > eps).sum()) for r in (found.radius, found.radius_real)]
                right = int((found.prediction == y).sum())
                print(json.dumps([name, method, eps, right, *counts, time.process_time() - began]), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="images of each network (default 200)")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--before", type=Path, help="another checkout of robcert")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measured(options.networks, options.methods, options.n)
        return 0
    asked = ["--networks", *options.networks, "--methods", *options.methods, "-n", str(options.n)]
    trees = [Path(__file__).resolve().parents[1], *([options.before.resolve()] if options.before else [])]
    workers = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--worker", *asked],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
        )
        for tree in trees
    ]  # fmt: skip
    print(f"{'network':16} {'method':12} {'eps':>9} {'right':>5} {'executed':>8} {'real':>5} {'before':>6}  seconds")
    fine = True
    for lines in zip(*(worker.stdout or () for worker in workers), strict=False):
        (name, method, eps, right, executed, real, seconds), *others = (json.loads(line) for line in lines)
        before = others[0][5] if others else None
        small = eps in (NETWORKS[name].gap[0], NETWORKS[name].eps[0])
        bad = executed < 0.99 * real or (before is not None and real < before) or (small and real <= 0.15 * options.n)
        fine = fine and not bad
        said = f"{executed:8} {real:5} {'' if before is None else before:>6}"
        times = f"{seconds:.1f}" + (f" / {others[0][6]:.1f}" if others else "")
        print(f"{name:16} {method:12} {eps:9.3g} {right:5} {said}  {times}{'  <' if bad else ''}", flush=True)
    return 0 if fine and all(worker.wait() == 0 for worker in workers) else 1


if __name__ == "__main__":
    sys.exit(main())
