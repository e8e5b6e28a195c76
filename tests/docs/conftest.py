"""A folder in which the quick start has been run, command by command, through the installed console script."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import ROOT, SHELL, Done, blocks, shell


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Done]]:
    """The folder, and what every block of the page did."""
    folder = tmp_path_factory.mktemp("quickstart")
    done: list[Done] = []
    for block in blocks(ROOT / "docs" / "quickstart.md", *SHELL):
        done.append(shell(block.commands, folder))
        if done[-1].code:
            break
    return folder, done
