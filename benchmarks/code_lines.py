"""Lines of code by room: without blank lines, comments and docstrings; and how many functions are documented.

python benchmarks/code_lines.py                 # the tree as it lies here
python benchmarks/code_lines.py 16c9254 HEAD    # two revisions side by side
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "robcert"
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(text: str) -> int:
    """Return the number of lines of a module that hold code."""
    holders = (node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Module, ast.ClassDef, *_DOCUMENTED)))
    documentation = {
        line
        for holder in holders
        if ast.get_docstring(holder, clean=False) is not None
        for line in range(holder.body[0].lineno, (holder.body[0].end_lineno or 0) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {line for t in tokens if t.type not in _NO_CODE for line in range(t.start[0], t.end[0] + 1)}
    return len(code - documentation)


def functions(text: str) -> tuple[int, int]:
    """Return the number of functions of a module, and of those that have a docstring."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, _DOCUMENTED)]
    return len(found), sum(ast.get_docstring(node) is not None for node in found)


def counted(files: Iterator[tuple[PurePosixPath, str]]) -> Counter[tuple[str, str]]:
    """Return (room, "lines" | "functions" | "documented") -> number; the room of a module at the top is "."."""
    found: Counter[tuple[str, str]] = Counter()
    for path, text in files:
        room = path.parts[0] if len(path.parts) > 1 else "."
        every, documented = functions(text)
        found.update({(room, "lines"): code_lines(text), (room, "functions"): every, (room, "documented"): documented})
    return found


def here(root: Path = ROOT) -> Iterator[tuple[PurePosixPath, str]]:
    """The modules of the package as they lie in a checkout, by their path below the package."""
    for path in sorted((root / PACKAGE).rglob("*.py")):
        yield PurePosixPath(path.relative_to(root / PACKAGE)), path.read_text(encoding="utf-8")


def revision(name: str, root: Path = ROOT) -> Iterator[tuple[PurePosixPath, str]]:
    """The modules of the package at a revision of git."""
    packed = subprocess.run(["git", "archive", name, PACKAGE], cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            path, file = PurePosixPath(member.name), archive.extractfile(member)
            if file is not None and path.suffix == ".py":
                yield path.relative_to(PACKAGE), file.read().decode()


def table(columns: dict[str, Counter[tuple[str, str]]]) -> str:
    """Return the lines of each room in each column, their sum, and the share of functions with a docstring."""
    rooms = sorted({room for found in columns.values() for room, _ in found})
    sums = [sum(found[room, "lines"] for room in rooms) for found in columns.values()]
    rows = [[room, *(f"{found[room, 'lines']:,}" for found in columns.values())] for room in rooms]
    rows += [["together", *(f"{number:,}" for number in sums)]]
    shares: list[str] = []
    for found in columns.values():
        every, documented = (sum(found[room, kind] for room in rooms) for kind in ("functions", "documented"))
        shares.append(f"{documented:,} of {every:,} ({documented / max(every, 1):.1%})")
    rows += [["functions with a docstring", *shares]]
    rows.insert(0, ["room", *columns])
    first, *others = (max(map(len, cells)) for cells in zip(*rows, strict=True))
    aligned = (zip(row[1:], others, strict=True) for row in rows)
    return "\n".join(
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in cells)])
        for row, cells in zip(rows, aligned, strict=True)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="*", help="of git; none: the tree as it lies here")
    wanted = parser.parse_args().revisions
    print(table({name: counted(revision(name)) for name in wanted} if wanted else {"here": counted(here())}))
