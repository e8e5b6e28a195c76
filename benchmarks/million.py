"""A leg of a million iterations: does it keep its rate, and its memory?

    python benchmarks/million.py                      # 1,000,000 iterations of cw on 10 images of digits-l2nnn
    python benchmarks/million.py --iterations 20000 --begin 5000

The images stay open (the budget lies below every certified radius), one binary-search step, abort-early off. Prints
the rate of the first ``--begin`` iterations and of the whole leg (per CPU second: other programs do not count), and
resident memory at both moments.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks import attacks
from robcert.bracket import Bracket
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.types import Batch, Threat


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1_000_000)
    parser.add_argument("--begin", type=int, default=10_000, help="the first so many are compared with the whole")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--eps", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, data = load_model("digits-l2nnn"), load_dataset("digits", n=50)
    with torch.no_grad():
        right = (model.module(data.x).argmax(1) == data.y).nonzero().flatten()[: arguments.images]
    images = Batch(data.x[right], data.y[right], data.index[right])
    bracket = Bracket(images.index)
    attack = attacks.get("cw")(iterations=arguments.iterations, search_steps=1, abort_early=False)  # type: ignore[call-arg]
    threat = Threat("l2", (arguments.eps,))
    search = SearchProblem(model, images, bracket, threat, "decide")
    stepper = stepper_for(attack, Networks(model.module), images.x.device)
    leg = Stage(search, Work("cw", list(range(len(right)))), stepper)
    seen: dict[str, float] = {}
    done, began = 0, time.process_time()

    def look(_: Stage) -> None:
        nonlocal done
        done += attack.period
        if done >= arguments.begin and not seen:
            seen.update(seconds=time.process_time() - began, memory=resident(), iterations=done)

    leg.run(look)
    seconds, memory = time.process_time() - began, resident()
    result = {
        "iterations": done,
        "open": int((bracket.distance > arguments.eps).sum()),
        "images": len(right),
        "rate_begin": seen["iterations"] / seen["seconds"],
        "rate_whole": done / seconds,
        "memory_begin_mb": seen["memory"],
        "memory_end_mb": memory,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    ratio = result["rate_whole"] / result["rate_begin"]
    print(
        f"{done:,} iterations on {len(right)} images of digits-l2nnn, {result['open']} still open, {seconds:.0f} CPU s"
    )
    begin, whole = result["rate_begin"], result["rate_whole"]
    print(f"rate: first {arguments.begin:,}: {begin:.0f}/s, whole: {whole:.0f}/s ({ratio:.3f})")
    print(f"resident memory: {seen['memory']:.0f} MB, at the end {memory:.0f} MB ({memory - seen['memory']:+.1f} MB)")


if __name__ == "__main__":
    main()
