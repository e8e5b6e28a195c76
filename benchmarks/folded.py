"""What the parametrisation costs: a step of training with it, and an evaluation after it is folded away.

    python benchmarks/folded.py [--batch 256] [--rounds 20]

CPU seconds of this process, the smallest of several rounds, for the network of mnist-l2nnn and for one of two 5x5
convolutions; each beside the same layers with plain weights.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from robcert.accel.allocator import keep_memory
from robcert.nn import architectures
from robcert.nn.nonexpansive import Divide, constrain, fold

NETWORKS = {
    "mnist-l2nnn": {"channels": [32], "kernel": 4, "stride": 2, "hidden": [192], "label_hidden": [64, 64]},
    "two 5x5 convolutions": {"channels": [32, 64], "kernel": 5, "hidden": [128]},
}


def ratio(work: Callable[[], object], other: Callable[[], object], rounds: int) -> float:
    """The least seconds of one over the least of the other, measured in turns: the machine is the same for both."""
    best = [float("inf"), float("inf")]
    for number in range(rounds + 1):
        for k, one in enumerate((work, other)):
            start = time.process_time()
            one()
            if number:  # the first of each only prepares
                best[k] = min(best[k], time.process_time() - start)
    return best[0] / best[1]


def step(net: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def work() -> None:
        net.zero_grad()
        net(x).square().sum().backward()

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    x = torch.rand(arguments.batch, 1, 28, 28)
    print("| network | W' | training step | evaluation, folded |\n| --- | --- | --- | --- |")
    for name, options in NETWORKS.items():
        plain = architectures.get("l2nnn")((1, 28, 28), 10, **options)
        kinds: tuple[Divide, ...] = ("whole", "each")
        for divide in kinds:
            net = constrain(copy.deepcopy(plain), divide=divide)
            trained = ratio(step(net, x), step(plain, x), arguments.rounds)
            folded = fold(net)
            with torch.no_grad():
                evaluated = ratio(lambda net=folded: net(x), lambda net=plain: net(x), arguments.rounds)
            print(f"| {name} | {divide} | {trained:.2f} | {evaluated:.2f} |")


if __name__ == "__main__":
    main()
