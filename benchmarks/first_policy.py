"""Whether a first policy holds: `robcert gate --init` and `robcert gate` on the networks of the zoo, on a busy machine.

    python benchmarks/first_policy.py      # the whole zoo, up to three times 2 minutes a network
    python benchmarks/first_policy.py --only digits-at --time-budget 30s

For each network: the seconds that --init took, the exit code of the gate with the policy that it wrote, the share that
the gate measured less the limit of each requirement (at most 0.1), and the exit code for a copy whose weights got
noise that costs 15 points of natural accuracy (1 is right), with the command that the gate names for the images. Two
other processes keep two cores busy meanwhile (``--busy``). Exits 1 where a network does not hold what is asked here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

import robcert
from robcert.data import subset
from robcert.network.zoo import zoo_names, zoo_path
from robcert.types import Dataset

DROP, LOOSE = 0.15, 0.1
"""What the noise costs at least, and the furthest that a limit may lie below what is measured."""


@dataclass(frozen=True)
class Row:
    """What came out for one network."""

    name: str
    seconds: float
    code: int
    images: int
    plan: str
    slack: dict[str, tuple[float, float]]
    noisy: int
    shown: str

    @property
    def holds(self) -> bool:
        tight = all(0 <= value - limit <= LOOSE for limit, value in self.slack.values())
        return self.code == 0 and tight and self.noisy == 1 and bool(self.shown)


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command, one thread."""
    command = [sys.executable, "-m", "robcert", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@contextmanager
def busy(count: int) -> Generator[None]:
    """Keep so many cores at work."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def natural(folder: Path, data: Dataset) -> float:
    """Return the share of images that a stored network answers rightly."""
    model = robcert.load_model(str(folder))
    with torch.no_grad():
        return float((model.module(data.x).argmax(1) == data.y).float().mean())


def disturbed(source: Path, folder: Path, data: Dataset) -> Path:
    """Write a copy of a network with the least noise in its weights, of nine tried, that costs `DROP`."""
    shutil.copytree(source, folder)
    weights = load_file(source / "weights.safetensors")
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(one.shape, generator=generator) for name, one in weights.items()}
    asked = natural(source, data) - DROP

    def written(scale: float) -> float:
        save_file(
            {name: _noisy(one, noise[name], scale) for name, one in weights.items()}, folder / "weights.safetensors"
        )
        return natural(folder, data)

    low, high = 0.0, 1.0
    while written(high) > asked:
        low, high = high, 2 * high
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (low, middle) if written(middle) <= asked else (middle, high)
    written(high)
    return folder


def _noisy(weights: Tensor, noise: Tensor, scale: float) -> Tensor:
    return weights + scale * weights.std() * noise if weights.is_floating_point() and weights.numel() > 1 else weights


def measured(name: str, folder: Path, time_budget: str) -> Row:
    """Write the policy of one network, check it, and check its noisy copy."""
    began = time.monotonic()
    started = call(folder, "gate", "--init", name, "--time-budget", time_budget)
    seconds = time.monotonic() - began
    if started.returncode:
        return Row(name, seconds, started.returncode, 0, started.stderr.strip(), {}, 0, "")
    gate = call(folder, "gate", "--format", "json", "--runs", "runs")
    record: dict[str, Any] = json.loads(gate.stdout)
    slack = {one["name"]: (one["limit"], one["value"]) for one in record["requirements"]}
    data = robcert.load_dataset(record["data"]["name"])
    data = subset(data, record["data"]["n"], record["data"]["seed"])
    noisy = disturbed(zoo_path(name), folder / "noisy", data)
    failed = call(folder, "gate", str(noisy), "--runs", "runs")
    shown = next((line.strip() for line in failed.stdout.splitlines() if "robcert show" in line), "")
    plan = ", ".join(dict.fromkeys(run["plan"] for run in record["runs"]))
    return Row(name, seconds, gate.returncode, record["data"]["n"], plan, slack, failed.returncode, shown)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of the zoo (all)")
    parser.add_argument("--time-budget", default="2m", help="of --init and the gate (2m)")
    parser.add_argument("--busy", type=int, default=2, help="processes that keep a core busy (2)")
    options = parser.parse_args(arguments)
    out = Console(width=150)
    out.print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} and {options.busy} processes, {options.time_budget}"
    )
    rows: list[Row] = []
    with busy(options.busy), tempfile.TemporaryDirectory() as place:
        for name in options.only or zoo_names():
            folder = Path(place) / name
            folder.mkdir()
            rows.append(measured(name, folder, options.time_budget))
            out.print(rows[-1], highlight=False)
    table = Table()
    for column in ("network", "init s", "gate", "images", "plan", "limit, measured", "noisy", "holds"):
        table.add_column(column)
    for row in rows:
        found = "\n".join(f"{limit:g}, {value:.3f}  {what}" for what, (limit, value) in row.slack.items())
        cells = (f"{row.seconds:.0f}", str(row.code), str(row.images), row.plan, found, str(row.noisy))
        table.add_row(row.name, *cells, "yes" if row.holds else "no")
    out.print(table)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
