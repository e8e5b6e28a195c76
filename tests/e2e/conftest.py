"""The installed command, as a user runs it: in a folder of its own, without a terminal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Robcert = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**more: str) -> dict[str, str]:
    """The user's, without settings that would change what robcert prints."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("ROBCERT_") and k not in ("NO_COLOR", "FORCE_COLOR")
    }
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def robcert(folder: Path) -> Robcert:
    """Run ``robcert ARGUMENTS`` and give what it printed; no traceback may ever be in it."""

    def call(
        *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = ["robcert", *(str(argument) for argument in arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd or folder, env=environment(**(env or {})), check=False
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        assert "defect of robcert" not in done.stderr, done.stderr
        return done

    return call
