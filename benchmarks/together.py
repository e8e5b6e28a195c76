"""What the scripts share that put robcert beside the other libraries: networks, contenders, options and the page."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from contender import Contender
from contenders import own, peers
from residual import make_residual_task
from rich.console import Console
from task import Task, make_task

from robcert.accel.layout import faster_layout
from robcert.accel.precision import search_network

TASKS = ("cnn", "resnet18")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every such script; the caller adds its own."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    found.add_argument("--tasks", default=",".join(TASKS), help="cnn, resnet18 or cnn,resnet18 (cnn,resnet18)")
    found.add_argument("--quick", action="store_true", help="a smoke run")
    found.add_argument("--write", type=Path, help="write the tables to this page")
    return found


def parse(options: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """The arguments, with ``tasks`` as a list of known names."""
    found = options.parse_args(arguments)
    found.tasks = found.tasks.split(",")
    if set(found.tasks) - set(TASKS):
        options.error(f"--tasks {','.join(found.tasks)}: expected {' or '.join(TASKS)}")
    return found


def compared() -> list[Contender]:
    """robcert's attacks and those of every library that is installed, each called as a user would."""
    return [c for c in own() + peers()[0] if c.timed and c.label != "cw, minimize"]


def trained(name: str, images: int, quick: bool) -> Task:
    """The network of that name and so many of its images."""
    return make_task(images, quick) if name == "cnn" else make_residual_task(images, quick)


def searched(task: Task) -> Task:
    """With the forms of the network that robcert chooses for its search by itself."""
    layout = faster_layout(task.model.module, task.x)
    return replace(task, layout=layout, search=search_network(task.model.module, task.x, "auto", layout))


def precision_of(task: Task) -> str:
    """What robcert searches in."""
    return "float32" if task.search is None else "bfloat16"


def print_missing(out: Console) -> None:
    """The libraries that are not there, with the reason."""
    for one in peers()[1]:
        out.print(f"missing: {one.library} ({one.reason})", highlight=False)


def write_page(path: Path, title: str, command: str, out: Console, note: str = "") -> None:
    """Everything that ``out`` recorded, as a page of the documentation that names the command."""
    text = f"# {title}\n\nWritten by `python benchmarks/{command}`.\n\n```text\n{out.export_text()}```\n"
    path.write_text(f"{text}\n{note}\n" if note else text, encoding="utf-8")
