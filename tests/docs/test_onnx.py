"""docs/onnx.md has the table of the ops that are read."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from onnx_ops import rewritten


def test_the_documentation_has_the_table() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
    assert "| Conv |" in page
    assert rewritten(page) == page, "run: python benchmarks/onnx_ops.py docs/onnx.md"
