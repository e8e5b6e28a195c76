"""The files of the verification competition: lists of instances, tables of results, and counterexamples.

Source: the scripts of VNN-COMP. An instance is a line ``onnx,vnnlib,seconds``, with paths relative to the file; a
result is a line ``category,onnx,vnnlib,seconds of preparation,result,seconds``.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robcert.errors import UsageError

_MOST_BYTES = 2**24


@dataclass(frozen=True)
class Row:
    """One instance.

    Attributes:
        model: the network as the list writes it.
        prop: the property, likewise.
        seconds: its limit.
        folder: where both paths begin.
    """

    model: str
    prop: str
    seconds: float
    folder: Path

    @property
    def model_path(self) -> Path:
        """The file of the network."""
        return self.folder / self.model

    @property
    def prop_path(self) -> Path:
        """The file of the property."""
        return self.folder / self.prop


def read_instances(path: Path) -> list[Row]:
    """Return the instances of a list.

    Raises:
        UsageError: it cannot be read, or a line is none; the line is named.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} has more than {_MOST_BYTES:,} bytes, expected a list of instances")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text, expected lines of onnx,vnnlib,seconds") from None
    found: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        seconds = _seconds(cells[2]) if len(cells) == 3 else None
        if seconds is None or not cells[0] or not cells[1]:
            raise UsageError(
                f"{path}, line {number}: {line.strip()[:80]!r} is no instance",
                "Expected onnx,vnnlib,seconds, e.g. onnx/net.onnx,vnnlib/prop_0.vnnlib,60",
            )
        found.append(Row(cells[0], cells[1], seconds, path.parent))
    if not found:
        raise UsageError(f"{path} lists no instance", "Expected lines of onnx,vnnlib,seconds")
    return found


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def result_line(category: str, model: str, prop: str, result: str, seconds: float) -> str:
    """Return a line of a table of results; robcert prepares nothing apart, so that takes 0 seconds."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([category, model, prop, "0", result, f"{seconds:.3f}"])
    return text.getvalue()


def counterexample(x: Sequence[float], y: Sequence[float]) -> str:
    """Return an input and its outputs as pairs of name and value in brackets."""
    pairs = [f"(X_{i} {v:.9g})" for i, v in enumerate(x)] + [f"(Y_{i} {v:.9g})" for i, v in enumerate(y)]
    return "(" + "\n".join(pairs) + ")"
