"""`robcert verify` on properties of which something is known (`verify_properties.py` makes them).

    python benchmarks/verify.py FOLDER                       # at most an hour on one core
    python benchmarks/verify.py FOLDER --arithmetic real --write docs/verify.md

Each instance has 60 seconds (20 where nothing is known) in one process. Every counterexample is executed again by
onnxruntime here, from the text of its file. A contradiction is an "unsat" of a property with a known counterexample, or
a "sat" of one that HiGHS excludes. A time is kept if the answer came within a tenth more.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from robcert.verification.parse import read_vnnlib

SECONDS = {"sat": 60, "unsat": 60, "unknown": 20}
_MARK = "<!-- python benchmarks/verify.py FOLDER --arithmetic {} --write docs/verify.md -->"


def confirmed(model: Path, prop: Path, text: str) -> bool:
    """Whether a counterexample lies in the box and onnxruntime's outputs fulfil a case."""
    values = {name: np.float32(v) for name, v in re.findall(r"\((X_\d+|Y_\d+) ([^)]+)\)", text)}
    asked = read_vnnlib(prop)
    x = np.array([values[f"X_{i}"] for i in range(asked.inputs)], np.float32)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    y: Any = session.run(None, {given.name: x.reshape([n if isinstance(n, int) else 1 for n in given.shape])})[0]
    for case in asked.regions:
        inside = (np.array(case.low) <= x) & (x <= np.array(case.high))
        held = (sum(a * float(y[0, j]) for j, a in one.coefficients) <= one.bound for one in case.constraints)
        if inside.all() and all(held):
            return True
    return False


def table(folder: Path, arithmetic: str) -> list[str]:
    """Run all instances; the lines of the table."""
    truths = json.loads((folder / "truth.json").read_text())
    lines = [f"{one['model']},{one['property']},{SECONDS[one['truth']]}" for one in truths]
    (folder / "instances.csv").write_text("\n".join(lines) + "\n")
    found, results = folder / f"found-{arithmetic}", folder / f"results-{arithmetic}.csv"
    line = ["verify", "--instances", str(folder / "instances.csv"), "--arithmetic", arithmetic]
    line += ["--results", str(results), "--counterexamples", str(found), "--run", str(folder / f"run-{arithmetic}")]
    line += ["--format", "json", "--output", str(folder / f"record-{arithmetic}.json"), "--threads", "1"]
    subprocess.run([sys.executable, "-c", f"from robcert.cli.main import run; run({line!r})"], check=True)
    rows = list(csv.reader(results.read_text().splitlines()))
    answers: dict[str, Counter[str]] = {kind: Counter() for kind in SECONDS}
    contradictions = late = sat = right = 0
    slowest = 0.0
    for number, (one, row) in enumerate(zip(truths, rows, strict=True), 1):
        result, seconds, truth = row[4], float(row[5]), one["truth"]
        answers[truth][result] += 1
        contradictions += (truth, result) in (("sat", "unsat"), ("unsat", "sat"))
        late += seconds > 1.1 * SECONDS[truth]
        slowest = max(slowest, seconds / SECONDS[truth])
        if result == "sat":
            sat += 1
            (path,) = found.glob(f"*-{number}.counterexample")
            right += confirmed(folder / one["model"], folder / one["property"], path.read_text())
    shown = ["| known | sat | unsat | unknown | timeout |", "| --- | --- | --- | --- | --- |"]
    for truth, counts in answers.items():
        shown.append(f"| {truth} | {' | '.join(str(counts[r]) for r in ('sat', 'unsat', 'unknown', 'timeout'))} |")
    proven, provable = answers["unsat"]["unsat"], sum(answers["unsat"].values())
    return [
        *shown,
        "",
        f"Contradictions: {contradictions}. Of {sat} counterexamples onnxruntime confirms {right}. Proven of the "
        f"provable within {SECONDS['unsat']} s: {proven} of {provable}. Later than a tenth over "
        f"the time: {late} of {len(rows)} (the slowest took {slowest:.3f} of it).",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arithmetic", choices=("executed", "real"), default="executed")
    parser.add_argument("--write", type=Path, help="a page whose table of that arithmetic is replaced")
    given = parser.parse_args()
    lines = table(given.folder, given.arithmetic)
    print("\n".join(lines))
    if given.write is not None:
        mark, text = _MARK.format(given.arithmetic), given.write.read_text(encoding="utf-8")
        before, _, rest = text.partition(mark)
        after = rest.partition("<!-- end -->")[2]
        given.write.write_text("\n".join([before + mark, "", *lines, "", "<!-- end -->"]) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
