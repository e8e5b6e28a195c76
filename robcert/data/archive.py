"""Limits on what a NumPy archive may ask for, before anything is allocated for it.

A header of a few bytes can declare an array of 10^15 entries, and numpy allocates what it declares.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

from numpy.lib import format as npy

from robcert.errors import EvaluationError

_DEFLATE = 1032
"""Deflate makes at most so many bytes out of one."""

_BOMB = 100
_FREE = 2**28
"""A quarter of a gigabyte is unpacked whatever it was packed to; more only if it was packed less than 100 times."""


def check_archive(path: Path) -> None:
    """Compares what each array of an archive declares with the bytes that there are.

    Raises:
        EvaluationError: an array declares another size than it has, or the archive unpacks to much more than its size.
        OSError, ValueError, zipfile.BadZipFile: it is damaged.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        whole = sum(info.file_size for info in members)
        possible = all(info.file_size <= _DEFLATE * info.compress_size + _DEFLATE for info in members)
        if not possible or (whole > _FREE and whole > _BOMB * size):
            raise EvaluationError(
                f"{path} has {size:,} bytes and would unpack to {whole:,}",
                f"Archives may unpack to {_BOMB} times their size.",
            )
        for info in members:
            if not info.filename.endswith(".npy"):
                continue
            with archive.open(info) as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(file)
                held = info.file_size - file.tell()
            if not dtype.hasobject and (min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != held):
                raise EvaluationError(
                    f"{info.filename} of {path} declares {dtype} entries of shape {shape}, and holds {held:,} bytes",
                    "The file is damaged: copy, download or write it again.",
                )
