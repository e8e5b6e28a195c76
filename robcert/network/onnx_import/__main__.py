"""``python -m robcert.network.onnx_import docs/onnx.md`` writes the table of ops into the page."""

from __future__ import annotations

import sys
from pathlib import Path

from robcert.network.onnx_import.table import markdown

FIRST = "<!-- python -m robcert.network.onnx_import docs/onnx.md -->"
LAST = "<!-- end of the table -->"


def rewritten(page: str) -> str:
    """Return the page with the table between its two comments made new."""
    before, _, rest = page.partition(FIRST)
    _, _, after = rest.partition(LAST)
    return f"{before}{FIRST}\n\n{markdown()}\n\n{LAST}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
