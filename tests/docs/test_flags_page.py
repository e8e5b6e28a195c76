"""docs/flags.md has the options of the program: which command has which."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from flags import rewritten  # pyright: ignore[reportMissingImports]


def test_the_page_has_the_tables_of_the_program() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "flags.md").read_text(encoding="utf-8")
    assert "| `--weights-key` |" in page
    assert rewritten(page) == page, "run: python benchmarks/flags.py docs/flags.md"
