"""The code blocks of the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("bash", "console", "sh", "shell")
_FENCE = re.compile(r"^```(?P<head>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title ("check.py", or empty) and its text."""

    language: str
    title: str
    text: str

    @property
    def commands(self) -> str:
        """What a person types: after ``$`` where the block shows output too."""
        if self.language != "console":
            return self.text
        return "\n".join(line[2:] for line in self.text.splitlines() if line.startswith("$ "))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in these languages."""
    found: list[Block] = []
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        language, _, rest = match["head"].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        found.append(Block(language, title[1] if title else "", match["body"]))
    return [block for block in found if block.language in languages]


def command_lines(page: Path) -> list[str]:
    """Every ``robcert ...`` in a shell block, an indented block, or between backquotes, one line each."""
    text = page.read_text(encoding="utf-8")
    prose = _FENCE.sub("", text)
    shell = "\n".join(block.commands for block in blocks(page, *SHELL))
    lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", shell).splitlines()]
    lines += [line.strip() for line in prose.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`\n]+)`", prose)
    found = [re.search(r"(?:^|&& |; )(?:[A-Z_]+=\S+ )*robcert (.*?)(?: && .*| [|>;].*)?$", line) for line in lines]
    return [match[1].strip() for match in found if match]
