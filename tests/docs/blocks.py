"""The code blocks of the documentation, and a shell to run them in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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


@dataclass(frozen=True)
class Done:
    """A command that has been run."""

    command: str
    code: int
    out: str
    err: str


def shell(command: str, folder: Path) -> Done:
    """Run a command as a person would, with the robcert of this environment first on the path."""
    names = {k: v for k, v in os.environ.items() if not k.startswith("ROBCERT_") and k != "PYTHONPATH"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    settings = {"PATH": path, "OMP_NUM_THREADS": "1", "HOME": str(folder), "COLUMNS": "120"}
    if "PYTHONPATH" in os.environ:
        settings["PYTHONPATH"] = os.environ["PYTHONPATH"]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**names, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return Done(command, done.returncode, done.stdout, done.stderr)
