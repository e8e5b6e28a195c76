"""Torch's own samples of every operator that an analysis knows, against what the analysis claims.

    python benchmarks/operator_samples.py --jobs 8 --record after.jsonl
    python benchmarks/operator_samples.py --drawn                  # those of the default tests
    python benchmarks/operator_samples.py --operators softmax,mean
    python benchmarks/operator_samples.py --record after.jsonl --before before.jsonl --page docs/operator-samples.md

For each sample and each float tensor among its arguments there is a network whose image is that argument; what is
claimed about it is compared with a search (tests/soundness/operator_samples.py). Prints the table operator x domain x
(held, infinite, refused, wrong, raw); exit code 1 if a claim is wrong or an exception is no refusal. A record that
exists is continued. With --before, the record of another version of robcert, also what was held then and is not now.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from tests.soundness.operator_samples import Cell, judged
from tests.soundness.operator_table import Table, lost, page
from tests.soundness.sample_networks import drawn, operators, pairs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--record", type=Path, help="one line of JSON a cell; what it holds already is not run again")
    parser.add_argument("--operators", help="only these, comma-separated")
    parser.add_argument("--drawn", action="store_true", help="only those of the default tests")
    parser.add_argument("--before", type=Path, help="the record of an earlier version")
    parser.add_argument("--page", type=Path, help="write the table as a page")
    options = parser.parse_args()
    names = options.operators.split(",") if options.operators else operators()
    cells = _read(options.record)
    known = {cell.key for cell in cells}
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        jobs = [(name, k, options.jobs, options.drawn, known) for name in names for k in range(options.jobs)]
        if options.jobs > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(options.jobs))
            results = pool.imap_unordered(_operator, jobs)
        else:
            results = map(_operator, jobs)
        for done, found in enumerate(results, 1):
            cells += found
            if options.record is not None:
                with options.record.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(cell.record()) + "\n" for cell in found)
            for cell in found:
                if cell.outcome in ("wrong", "raw"):
                    print(f"{cell.outcome.upper()} {cell.key} [{cell.layout}] {cell.domain}: {cell.said}", flush=True)
            print(f"{done} of {len(jobs)} parts, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    table = Table([cell for cell in cells if cell.key.split("|")[0] in names])
    print(table.text())
    before = _read(options.before)
    if before:
        print(*lost(before, cells), sep="\n")
    if options.page is not None:
        total = sum(1 for name in operators() for _ in pairs(name))
        options.page.write_text(page(cells, before, total), encoding="utf-8")
    return 1 if table.bad else 0


def _operator(job: tuple[str, int, int, bool, set[str]]) -> list[Cell]:
    """The cells of one part of the pairs of one operator."""
    name, part, parts, few, known = job
    torch.set_num_threads(1)
    chosen = [pair for pair in (drawn(name) if few else pairs(name)) if pair.key not in known]
    return [cell for pair in chosen[part::parts] for cell in judged(pair)]


def _read(path: Path | None) -> list[Cell]:
    if path is None or not path.exists():
        return []
    return [Cell(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
