"""Run directories that cannot be written, in words for a person."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from robcert.errors import EvaluationError


@contextmanager
def explained(directory: Path) -> Generator[None]:
    """Turn what the operating system says about ``directory`` into one clear error.

    Raises:
        EvaluationError: the disk is full, the database is damaged, or the directory cannot be written.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        # safetensors raises an error of its own, which is no OSError, when the disk refuses.
        ours = isinstance(error, (OSError, sqlite3.Error)) or type(error).__name__ == "SafetensorError"
        if not ours:
            raise
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text or "is full" in text
        if full:
            raise EvaluationError(
                f"the disk is full: could not save to {directory} ({text})",
                "Free some space and run the same command again: it goes on from what was saved before",
            ) from None
        if type(error) is sqlite3.DatabaseError:  # its subclasses are about statements and locks
            raise EvaluationError(
                f"run.sqlite of the run directory {directory} is damaged ({text})",
                "Remove the directory, or name another with --run DIR: the run begins anew",
            ) from None
        raise EvaluationError(
            f"cannot write to the run directory {directory} ({text})",
            "Name a directory that you may write with --run DIR",
        ) from None
