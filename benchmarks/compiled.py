"""What torch.compile makes of a gradient step on a CPU: seconds to compile, and times the step as robcert takes it.

    python benchmarks/compiled.py

It needs a C++ compiler. robcert does not use torch.compile on a CPU, and this is why.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from task import make_task
from torch import nn

from robcert.accel.allocator import keep_memory
from robcert.accel.benchmark import benchmark
from robcert.accel.layout import faster_layout
from robcert.accel.precision import search_network


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_memory()
    task = make_task(128, False)
    network, x = task.model.module, task.x
    layout = faster_layout(network, x)
    search = search_network(network, x, "auto", layout)
    forms: dict[str, nn.Module] = {"float32, as loaded": network, "float32, as searched": layout}
    if search is not None:
        forms["bfloat16, as searched"] = search
    for name, form in forms.items():
        compiled = torch.compile(form, dynamic=False)
        began = time.perf_counter()
        benchmark([compiled], x, 0.0)
        spent = time.perf_counter() - began
        eager, other = benchmark([form, compiled], x, 3.0)
        print(
            f"{name}: {spent:.0f} s to compile; {1e3 * other:.1f} ms a step, {1e3 * eager:.1f} without "
            f"({other / eager:.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
