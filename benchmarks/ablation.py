"""What each accelerator of the search buys: the time of a gradient step with it over that without it.

    python benchmarks/ablation.py                          # all networks, about eight minutes
    python benchmarks/ablation.py --networks cnn,resnet18 --rounds 5

The networks are those of peers.py (trained briefly: the values make little difference to the time), those of the zoo
on digits, and mnist-l2nnn, for which some layers were written. With and without are timed one after the other, in
turns, in CPU time; a figure is the median of their ratios, with the lowest and the highest quarter behind it. 1.00: it
buys nothing. An accelerator that is above 0.90 in every row is not worth its lines.

A step is a forward and the gradient by the images; of "images at once" and "freed memory kept" it is a step of pgd
through the engine, since it is what surrounds the network that they make faster. Layers are left out one at a time, the
others stay. What is for GPUs is not measured on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import torch
from contender import Setting
from contenders_own import own_attacks
from measure import TINY
from residual import make_residual_task
from rich.console import Console
from rich.table import Table
from task import Task, make_task
from together import precision_of, searched
from torch import nn

import robcert
from robcert.accel import layout, precision, rewrites
from robcert.accel.allocator import keep_memory
from robcert.accel.batch_size import tune_batch_size
from robcert.accel.layers.first_convolution import ReadPicture
from robcert.accel.layers.max_pooling import MaxPoolByRows
from robcert.accel.layers.norm_pooling import PoolNorms
from robcert.accel.layout import ChannelsLast
from robcert.accel.precision import Lowered

ZOO = Path(__file__).resolve().parents[1] / "models"
NETWORKS = ("cnn", "resnet18", "digits-plain", "digits-at", "digits-l2nnn", "mnist-l2nnn")
LIMIT = 0.90
Layer = list[tuple[object, str, object]]
_NEVER = staticmethod(lambda *_: False)
_NOTHING = lambda *_: None  # noqa: E731
LAYERS: dict[str, Layer] = {
    "ReLU behind max-pooling": [(form, "pool_before_relu", _NOTHING) for form in (layout, precision)],
    "max-pooling by rows": [(MaxPoolByRows, "fits", _NEVER)],
    "two-sided ReLU and norm-pooling": [(PoolNorms, "fits", _NEVER)],
    "first convolution": [(ReadPicture, "fits", _NEVER)],
    "flattening in place": [(rewrites, "_flatten_pixels", _NOTHING)],
}
"""What is replaced to leave a layer out."""
ALL = [one for layer in LAYERS.values() for one in layer]


@dataclass(frozen=True)
class Row:
    """Ratios of one accelerator on one network, by round; and why there are none."""

    accelerator: str
    network: str
    numbers: str
    ratios: list[float]
    missing: str = ""


@contextlib.contextmanager
def left_out(layer: Layer) -> Iterator[None]:
    """Build networks without a layer."""
    with contextlib.ExitStack() as stack:
        for owner, name, other in layer:
            stack.enter_context(mock.patch.object(owner, name, other))
        yield


@contextlib.contextmanager
def by_cpu_time() -> Iterator[None]:
    """Have robcert choose by this clock too, so that it chooses on a busy machine as on an idle one."""
    with mock.patch.object(time, "monotonic", time.process_time):
        yield


def paired(with_it: Callable[[], float], without: Callable[[], float], rounds: int) -> list[float]:
    """Ratios of what two pieces of work take, one after the other, in turns; the first pair only prepares."""
    ratios: list[float] = []
    for number in range(rounds + 1):
        if number % 2:
            first = with_it()
            ratios.append(first / without())
        else:
            second = without()
            ratios.append(with_it() / second)
    return ratios[1:]


def pass_of(network: nn.Module, task: Task, seconds: float) -> Callable[[], float]:
    """Gradient steps for about so many seconds; returns what one takes."""

    def step() -> None:
        point = task.x.detach().requires_grad_(True)
        torch.autograd.grad(network(point).logsumexp(dim=1).sum(), point)

    step()
    began = time.process_time()
    step()
    count = max(1, round(seconds / (time.process_time() - began)))

    def work() -> float:
        began = time.process_time()
        for _ in range(count):
            step()
        return (time.process_time() - began) / count

    return work


def run_of(task: Task, steps: int) -> Callable[[], float]:
    """A run of pgd through the engine; returns what a step takes for one image."""
    contender = next(one for one in own_attacks() if one.family == "pgd linf")
    counted = task.counted()

    def work() -> float:
        began = time.process_time()
        contender.run(counted, task, Setting(steps, 1, TINY, timing=True))
        return (time.process_time() - began) / steps / len(task.x)

    return work


def layers(name: str, task: Task, rounds: int, seconds: float) -> Iterator[Row]:
    """The memory format, the precision and the layers."""
    module = task.model.module
    forms: dict[str, Callable[[], nn.Module]] = {
        "float32": lambda: ChannelsLast(module, task.x),
        "bfloat16": lambda: Lowered(module, task.x),
    }

    def compared(accelerator: str, numbers: str, one: nn.Module, other: nn.Module) -> Row:
        works = (pass_of(network, task, seconds) for network in (one, other))
        return Row(accelerator, name, numbers, paired(*works, rounds))

    yield compared("channels last", "float32", ChannelsLast(module), module)
    whole = {numbers: build() for numbers, build in forms.items()}
    yield compared("bfloat16", "bfloat16", whole["bfloat16"], whole["float32"])
    for numbers, build in forms.items():
        for label, layer in {"all layers below": ALL, **LAYERS}.items():
            with left_out(layer):
                other = build()
            if _kinds(other) != _kinds(whole[numbers]):
                yield compared(label, numbers, whole[numbers], other)


def _kinds(network: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in network.modules()]


def images_at_once(name: str, task: Task, rounds: int, steps: int) -> Row:
    """More images in a batch than the task has, where robcert takes more."""
    label, count = "images at once", len(task.x)
    with by_cpu_time():
        width = tune_batch_size(task.search or task.layout or task.model.module, task.x, count)
    if width == count:
        return Row(label, name, precision_of(task), [], f"no more than {count}")
    wide = replace(task, x=task.x.repeat(width // count, 1, 1, 1), y=task.y.repeat(width // count))
    return Row(label, name, precision_of(task), paired(run_of(wide, steps), run_of(task, steps), rounds))


def memory_kept(name: str, task: Task, rounds: int, steps: int) -> Row:
    """Two processes that take turns: one keeps what is freed."""
    context = multiprocessing.get_context("spawn")
    works: list[Callable[[], float]] = []
    processes = []
    for keep in (True, False):
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, task, steps, keep), daemon=True)
        process.start()
        processes.append((process, here))

        def work(here: Connection = here) -> float:
            here.send(True)
            return here.recv()

        works.append(work)
    ratios = paired(*works, rounds)
    for process, here in processes:
        here.send(False)
        process.join()
    return Row("freed memory kept", name, precision_of(task), ratios)


def _serve(there: Connection, task: Task, steps: int, keep: bool) -> None:
    torch.set_num_threads(1)
    if keep:
        keep_memory()
    work = run_of(task, steps)
    work()
    while there.recv():
        there.send(work())


def task_of(name: str) -> Task:
    """A network with 128 images (resnet18: 32) that it answers as they are labelled."""
    if name == "cnn":
        return make_task(128, quick=True)
    if name == "resnet18":
        return make_residual_task(32, quick=True)
    model = robcert.load_model(ZOO / name)
    data = robcert.load_dataset(name.partition("-")[0], n=128)
    with torch.no_grad():
        y = model.module(data.x).argmax(dim=1)
    return Task(name, model, sum(p.numel() for p in model.module.parameters()), 1.0, data.x, y)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="some of them, with commas")
    parser.add_argument("--rounds", type=int, default=11, help="pairs (11)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each side of a pair (0.1)")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error("--rounds: at least 2, for the quarters")
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in options.networks.split(","):
        task = task_of(name)
        steps = 20 if name != "resnet18" else 3
        for row in layers(name, task, options.rounds, options.seconds):
            print(name, row.accelerator, row.numbers, f"{statistics.median(row.ratios):.2f}", file=sys.stderr)
            rows.append(row)
        with by_cpu_time():
            task = searched(task)
        rows.append(images_at_once(name, task, options.rounds, steps))
        rows.append(memory_kept(name, task, options.rounds, steps))
    table = Table(title="time of a step with it over that without it")
    for column in ("accelerator", "network", "numbers", "with / without", "quarters", "worth it"):
        table.add_column(column, justify="right" if "/" in column else "left")
    for label in dict.fromkeys(row.accelerator for row in rows):
        group = [row for row in rows if row.accelerator == label]
        worth = any(row.ratios and statistics.median(row.ratios) <= LIMIT for row in group)
        for row in group:
            low, middle, high = statistics.quantiles(row.ratios, n=4) if row.ratios else (0.0, 0.0, 0.0)
            figures = (f"{middle:.2f}", f"{low:.2f}-{high:.2f}") if row.ratios else ("-", row.missing)
            verdict = ("yes" if worth else "no") if row is group[0] else ""
            table.add_row(label if row is group[0] else "", row.network, row.numbers, *figures, verdict)
        table.add_section()
    out = Console(width=120)
    out.print(f"torch {torch.__version__}, one thread, CPU time, {options.rounds} pairs", highlight=False)
    out.print(table)
    out.print("CUDA graphs and fused kernels: not measured since 2026-11-26 (docs/speed.md)", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
