"""What a gradient step of two versions of robcert takes, in turns, in one run.

    git worktree add ../before REVISION
    python benchmarks/two_trees.py ../before .                  # the CNN of peers.py, the median ratio of each attack

Each tree has a process of its own, which trains the network of `peers.py --tasks cnn` and then waits for its turn, so
that both share what else happens on the machine. Processor time, one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Tree:
    """A version of robcert, in a process that has its network trained and waits.

    Args:
        root: of a checkout with robcert/ and benchmarks/.
    """

    def __init__(self, root: Path, task: str, steps: int) -> None:
        places = os.pathsep.join(str(root.resolve() / part) for part in ("", "benchmarks"))
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--worker", task, str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env=os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        )

    def read(self) -> Any:
        """Return what the process says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with exit code {self._process.wait()}")
        return json.loads(line)

    def seconds(self, attack: str) -> float:
        """Return the processor time of a gradient step of an attack."""
        assert self._process.stdin is not None
        self._process.stdin.write(attack + "\n")
        self._process.stdin.flush()
        return float(self.read())


def work(name: str, steps: int) -> None:
    """Time what stdin names, one line an attack; the modules are those of the tree in PYTHONPATH."""
    sys.path.remove(str(Path(__file__).resolve().parent))  # python puts the folder of the script first
    import torch
    from contender import Setting
    from contenders_own import own_attacks
    from measure import TINY
    from together import precision_of, searched, trained

    for room in ("accel", "engine"):  # what it was called before
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"robcert.{room}.allocator").keep_memory()  # as peers.py and every run do
    torch.set_num_threads(1)
    task = searched(trained(name, 128 if name == "cnn" else 64, False))
    attacks = {f"{one.family}: {one.label}": one for one in own_attacks() if one.timed}
    counted = task.counted()
    for one in attacks.values():
        one.run(counted, task, Setting(3, 1, TINY, timing=True))  # warm up
    print(json.dumps({"attacks": list(attacks), "precision": precision_of(task)}), flush=True)
    for line in sys.stdin:
        began = time.process_time()
        attacks[line.strip()].run(counted, task, Setting(steps, 1, TINY, timing=True))
        print(json.dumps((time.process_time() - began) / steps), flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--task", default="cnn", choices=("cnn", "resnet18"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    trees = [Tree(root, options.task, options.steps) for root in (options.before, options.after)]
    first, second = (tree.read() for tree in trees)
    print(f"searched in {first['precision']} before, {second['precision']} after", flush=True)
    medians: list[float] = []
    for attack in (name for name in first["attacks"] if name in second["attacks"]):
        pairs: list[tuple[float, float]] = []
        for turn in range(options.rounds):
            order = trees if turn % 2 == 0 else trees[::-1]
            taken = {id(tree): tree.seconds(attack) for tree in order}
            pairs.append((taken[id(trees[0])], taken[id(trees[1])]))
        ratio = statistics.median(after / before for before, after in pairs)
        medians.append(ratio)
        before, after = (1e3 * statistics.median(pair[k] for pair in pairs) for k in (0, 1))
        print(f"{attack:24} {before:7.2f} ms before, {after:7.2f} ms after, median ratio {ratio:.3f}", flush=True)
    print(f"median of the attacks' ratios: {statistics.median(medians):.3f}")


if __name__ == "__main__":
    main()
