"""What counts as a line of code."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from code_lines import code_lines, counted, functions, here, table

MODULE = '''"""A module.

Two lines of it.
"""

# a comment
TEXT = """not a docstring,
but two lines of a constant"""


def one(
    x: int,  # a comment behind code
) -> int:
    """A docstring."""
    return x


def two() -> None:
    pass
'''


def test_only_code_counts() -> None:
    assert code_lines(MODULE) == 8
    assert functions(MODULE) == (2, 1)


def test_rooms_are_folders_below_the_package() -> None:
    found = counted(iter([(PurePosixPath("types.py"), MODULE), (PurePosixPath("nn/deep/a.py"), MODULE)]))
    assert (found[".", "lines"], found["nn", "lines"], found["nn", "documented"]) == (8, 8, 1)
    assert table({"here": found}).splitlines()[-2:] == [
        "together                                16",
        "functions with a docstring  2 of 4 (50.0%)",
    ]


def test_the_package_is_found() -> None:
    assert counted(here())["network", "lines"] > 1000
