"""The picture of the rooms in docs/architecture.md: the layers of import-linter, and the imports that there are.

python benchmarks/architecture.py docs/architecture.md    # writes it between its two comments
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import grimp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "robcert"
FIRST = "<!-- python benchmarks/architecture.py docs/architecture.md -->"
LAST = "<!-- end of the picture -->"

Imports = Mapping[str, frozenset[str]]
"""Room -> the rooms that it imports."""


def layers() -> list[list[str]]:
    """Return the rooms as import-linter knows them, the uppermost layer first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (found,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [layer.split(" | ") for layer in found]


def imports() -> Imports:
    """Return what each room imports; the lazy names of the package itself are left out."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    rooms = {module.split(".")[1] for module in graph.modules if "." in module}
    for room in rooms:
        if graph.find_children(f"{PACKAGE}.{room}"):
            graph.squash_module(f"{PACKAGE}.{room}")
    found = {room: graph.find_modules_directly_imported_by(f"{PACKAGE}.{room}") for room in rooms}
    return {
        room: frozenset(name.split(".")[1] for name in names if "." in name) - {room} for room, names in found.items()
    }


def direct(found: Imports) -> Imports:
    """Return the imports without those that lead through another room too: a picture shows no more than these."""

    def below(room: str) -> frozenset[str]:
        return found[room].union(*(below(other) for other in found[room]))

    return {room: names - frozenset().union(*(below(other) for other in names)) for room, names in found.items()}


def picture() -> str:
    """Return the rooms as a Mermaid flow chart."""
    order = [room for layer in layers() for room in layer]
    arrows = direct(imports())
    chart = [f"    {room} --> {other}" for room in order for other in order if other in arrows[room]]
    return "\n".join(["```mermaid", "flowchart TD", *chart, "```"])


def rewritten(page: str) -> str:
    """Return a page with the picture between its two comments made new."""
    before, _, rest = page.partition(FIRST)
    return f"{before}{FIRST}\n\n{picture()}\n\n{LAST}{rest.partition(LAST)[2]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?", help="the page to rewrite; none: the picture is printed")
    page = parser.parse_args().page
    if page is None:
        print(picture())
    else:
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
