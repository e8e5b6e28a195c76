"""Random networks against their Lipschitz bounds: does gradient ascent over pairs find a ratio above one?

    python benchmarks/soundness.py            # 10,000 networks
    python benchmarks/soundness.py --n 500 --seed 7

Prints every violation with what reproduces it, and how close to the bounds the found ratios come. Exit code 1 if a
bound is broken.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from robcert.types import BOUND_NORMS
from tests.bounds.lipschitz.random_networks import HEADS, STEPS
from tests.bounds.lipschitz.soundness import compare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="how many networks (default 10,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, broken, infinite = time.process_time(), 0, 0
    shares: dict[str, list[float]] = {norm: [] for norm in BOUND_NORMS}
    for seed in range(options.seed, options.seed + options.n):
        r = random.Random(seed)
        steps = [r.choice(sorted(STEPS)) for _ in range(r.randint(2, 8))]
        head = r.choice(HEADS)
        outcome = compare(steps, head, seed)
        for problem in outcome.broken:
            broken += 1
            print(f"BROKEN compare({steps}, {head!r}, {seed}): {problem}", flush=True)
        infinite += not outcome.finite
        for norm, share in outcome.share.items():
            shares[norm].append(share)
        done = seed - options.seed + 1
        if sys.stderr.isatty() or done % 500 == 0:
            print(f"\r{done} of {options.n} networks", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    seconds = time.process_time() - start
    print(f"{options.n} networks, {broken} broken bounds, {infinite} without a finite bound, {seconds:.0f} CPU s")
    print("largest found ratio / bound:   median     90 %   largest   within 1 % of the bound")
    for norm in BOUND_NORMS:
        values = torch.tensor(shares[norm], dtype=torch.float64)
        if len(values):
            middle, high = (float(values.quantile(q)) for q in (0.5, 0.9))
            tight = float((values > 0.99).double().mean())
            print(f"{norm:>26}   {middle:8.3f} {high:8.3f}  {float(values.max()):.6f}   {tight:.1%}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
