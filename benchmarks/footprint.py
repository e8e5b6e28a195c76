"""What a run calls and holds, robcert beside the libraries of the field: forwards, backwards and peak memory.

    python benchmarks/footprint.py                    # the MNIST network and a ResNet-18, some minutes
    python benchmarks/footprint.py --quick            # a smoke run; its figures mean nothing
    python benchmarks/footprint.py --write docs/benchmarks-footprint.md

The same contenders, network and images as in peers.py, and again an eps within which nothing breaks. The only clock is
robcert's own, by which it chooses the form of the network that it searches. Forwards and backwards are counted in
images, at the logits of whatever form of the network is called: a backward is a gradient that reached them. Memory is
the most that all tensors allocated at once during a run, above those that were there when it began (torch's own record
of allocations, so without what a kernel takes for itself), per image of the batch. robcert's is not below the others':
where it searches in bfloat16 the last steps of every search are float32, and layers that were rewritten to be faster
hold more. On a busy machine it may choose another form, and so print other figures for itself.
"""

from __future__ import annotations

import gc
import platform
import sys
from typing import Any

import torch
from contender import Contender, Setting
from measure import TINY
from rich.console import Console
from rich.table import Table
from task import Counted, Task
from together import compared, parse, parser, precision_of, print_missing, searched, trained, write_page
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

SIZES = {"cnn": (128, 100), "resnet18": (64, 20), "cnn, quick": (16, 3), "resnet18, quick": (8, 3)}
"""Images and gradient steps."""
MEMORY_STEPS = 3
"""Every step holds what the one before it held."""


class Watched(Counted):
    """Counts the images of all forwards and backwards, of the network and of the forms that are searched."""

    forwards = backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        return self._note(super().forward(x))

    def also(self, other: nn.Module | None) -> nn.Module | None:
        watched = super().also(other)
        if watched is not None:
            watched.register_forward_hook(self._called)
        return watched

    def _called(self, module: nn.Module, given: Any, logits: Tensor) -> None:
        self._note(logits)

    def _note(self, logits: Tensor) -> Tensor:
        self.forwards += len(logits)
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def called(contender: Contender, task: Task, steps: int) -> tuple[float, float]:
    """Forwards and backwards of an image in so many gradient steps."""
    watched = Watched(task.model.module).eval()
    contender.run(watched, task, Setting(steps, 1, TINY, timing=True))
    return watched.forwards / len(task.x), watched.backwards / len(task.x)


def held(contender: Contender, task: Task) -> float:
    """The most bytes of tensors at once, for an image of the batch."""
    gc.collect()  # what an earlier run left in cycles would be given back during this one
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        contender.run(task.counted(), task, Setting(MEMORY_STEPS, 1, TINY, timing=True))
    kineto: Any = record.profiler
    allocations = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    if not allocations:
        raise SystemExit(f"torch {torch.__version__} recorded no allocations")
    now = most = 0
    for event in sorted(allocations, key=lambda event: event.start_ns()):
        now += event.nbytes()  # negative where memory is given back
        most = max(most, now)
    return most / len(task.x)


def tabulated(name: str, task: Task, contenders: list[Contender], steps: int) -> Table:
    """The figures of one network."""
    table = Table(title=f"{name}: {task.parameters:,} parameters, {len(task.x)} images of {task.data}, {steps} steps")
    for column in ("attack", "of", "forwards", "backwards", "MB an image"):
        table.add_column(column, justify="left" if column in ("attack", "of") else "right")
    for family in dict.fromkeys(contender.family for contender in contenders):
        for contender in (contender for contender in contenders if contender.family == family):
            forwards, backwards = called(contender, task, steps)
            label = f"{contender.library} {contender.version}"
            memory = f"{held(contender, task) / 1e6:.3f}"
            table.add_row(f"{family}: {contender.label}", label, f"{forwards:.1f}", f"{backwards:.1f}", memory)
        table.add_section()
    return table


def main(arguments: list[str]) -> int:
    options = parse(parser(__doc__), arguments)
    torch.set_num_threads(1)
    progress, out = Console(stderr=True), Console(record=True, width=150)
    out.print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}", highlight=False)
    for name in options.tasks:
        progress.print(f"{name}: training the network ...")
        images, steps = SIZES[f"{name}, quick" if options.quick else name]
        task = searched(trained(name, images, options.quick))
        progress.print(f"{name}: counting ...")
        out.print(tabulated(name, task, compared(), steps))
        out.print(f"{name}: robcert searches in {precision_of(task)}", highlight=False)
    print_missing(out)
    if options.write:
        command = " ".join(["footprint.py", *arguments])
        write_page(options.write, "Forwards, backwards and memory", command, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
