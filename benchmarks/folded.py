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

from robcert.nn import architectures
from robcert.nn.nonexpansive import Divide, constrain, fold

NETWORKS = {
    "mnist-l2nnn": {"channels": [32], "kernel": 4, "stride": 2, "hidden": [192], "label_hidden": [64, 64]},
    "two 5x5 convolutions": {"channels": [32, 64], "kernel": 5, "hidden": [128]},
}


def seconds(work: Callable[[], object], rounds: int) -> float:
    work()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


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
    x = torch.rand(arguments.batch, 1, 28, 28)
    print("| network | W' | training step | evaluation, folded |\n| --- | --- | --- | --- |")
    for name, options in NETWORKS.items():
        plain = architectures.get("l2nnn")((1, 28, 28), 10, **options)
        base_step = seconds(step(plain, x), arguments.rounds)
        with torch.no_grad():
            base = seconds(lambda net=plain: net(x), arguments.rounds)
        kinds: tuple[Divide, ...] = ("whole", "each")
        for divide in kinds:
            net = constrain(copy.deepcopy(plain), divide=divide)
            trained = seconds(step(net, x), arguments.rounds)
            folded = fold(net)
            with torch.no_grad():
                evaluated = seconds(lambda net=folded: net(x), arguments.rounds)
            print(f"| {name} | {divide} | {trained / base_step:.2f} | {evaluated / base:.2f} |")


if __name__ == "__main__":
    main()
