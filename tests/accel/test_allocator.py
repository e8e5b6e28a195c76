"""Memory that is freed stays in the process; a malloc that the user tuned is left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RETURNED = """
import torch
from pathlib import Path
from robcert.accel.allocator import keep_memory

def returned(count):
    # How many MB go back to the system when a block that fits in no hole is freed.
    block = torch.ones(count)
    held = int(Path("/proc/self/statm").read_text().split()[1])
    del block
    return (held - int(Path("/proc/self/statm").read_text().split()[1])) * 4096 // 10**6

before = returned(6_000_000)
kept = keep_memory()
print(int(kept), before, returned(7_000_000))
"""


def measured(**more: str) -> list[int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", RETURNED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean | more)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc of glibc")
def test_freed_memory_stays() -> None:
    kept, before, after = measured()
    if not kept:
        pytest.skip("the C library is not glibc")
    assert before >= 23, "24 MB: a block of this size is mapped, and given back at once"
    assert after <= 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc of glibc")
def test_a_tuned_malloc_is_left_alone() -> None:
    assert measured(MALLOC_ARENA_MAX="2")[0] == 0
    assert measured(GLIBC_TUNABLES="glibc.malloc.arena_max=2")[0] == 0
