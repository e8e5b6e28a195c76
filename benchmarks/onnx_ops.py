"""The table of ONNX ops in docs/onnx.md: ``python benchmarks/onnx_ops.py docs/onnx.md`` writes it into the page."""

from __future__ import annotations

import sys
from pathlib import Path

from robcert.network.onnx_import.table import supported

FIRST = "<!-- python benchmarks/onnx_ops.py docs/onnx.md -->"
LAST = "<!-- end of the table -->"


def rewritten(page: str) -> str:
    """The page with the table between its two comments made new."""
    rows = "\n".join(f"| {name} | {', '.join(map(str, versions))} |" for name, versions in supported().items())
    before, _, rest = page.partition(FIRST)
    return f"{before}{FIRST}\n\n| op | versions |\n| --- | --- |\n{rows}\n\n{LAST}{rest.partition(LAST)[2]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
