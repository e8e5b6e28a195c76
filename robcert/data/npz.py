"""Images and labels in a NumPy archive: ``npz:PATH``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy

from robcert.data.archive import check_archive
from robcert.data.source import Images, Request, dataset
from robcert.errors import EvaluationError, UsageError

_EXAMPLE = "numpy.savez('images.npz', x=images, y=labels) writes such a file."
_COLOURS = (1, 3)


def _file(request: Request) -> Path:
    """The archive of the split: PATH/test.npz and PATH/train.npz if PATH is a folder, else PATH for both."""
    assert request.path is not None
    return request.path / f"{request.split}.npz" if request.path.is_dir() else request.path


def _places(request: Request) -> list[tuple[Path, bool]]:
    path = _file(request)
    return [(path, path.is_file())]


@dataset("npz", title="NumPy archive (npz:PATH)", places=_places, from_path=True)
def read_npz(request: Request) -> Images:
    """Reads ``x``, ``y`` and, if it is there, ``classes``.

    A file is both splits; a folder holds ``test.npz`` and ``train.npz``.

    ``x``: floats in [0, 1], or uint8, which is divided by 255.

    ============================  =======================================================================
    shape of ``x``                becomes
    ============================  =======================================================================
    (n, h, w)                     (n, 1, h, w): grey images
    (n, h, w, 1), (n, h, w, 3)    (n, c, h, w), unless the second size is 1 or 3 too
    (n, 1, h, w), (n, 3, h, w)    itself, whatever the last size is
    any other (n, ...)            itself
    ============================  =======================================================================

    ``y``: (n,) integers from 0. ``classes``: their names.

    Raises:
        UsageError: no such file.
        EvaluationError: not an archive, damaged, an array is missing, or declares more than the file holds.
    """
    path = _file(request)
    if not path.is_file():
        raise UsageError(f"there is no file {path}", _EXAMPLE)
    try:
        with path.open("rb") as file:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                raise EvaluationError(f"{path} is one NumPy array, but an archive with x and y was expected", _EXAMPLE)
        check_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            for name in ("x", "y"):
                if name not in names:
                    raise EvaluationError(
                        f"{path} holds {', '.join(names) or 'nothing'}, but no array {name!r}", _EXAMPLE
                    )
            x, y = _tensor(archive["x"], f"x of {path}"), _tensor(archive["y"], f"y of {path}")
            classes = _names(archive["classes"], path) if "classes" in names else ()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, TokenError, NotImplementedError) as error:
        raise EvaluationError(f"{path} cannot be read as a NumPy archive: {error}", _EXAMPLE) from error
    return Images(_channels_first(x), y, classes)


def _tensor(array: Any, name: str) -> torch.Tensor:
    try:
        # A copy in native byte order; torch takes no other.
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise EvaluationError(f"{name} holds {array.dtype}, but numbers were expected", _EXAMPLE) from error


def _names(array: Any, path: Path) -> tuple[str, ...]:
    if array.ndim != 1:
        raise EvaluationError(
            f"classes of {path} has shape {array.shape}, but one name for each class was expected", _EXAMPLE
        )
    return tuple(str(name) for name in array)


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    if x.ndim == 3:
        return x.unsqueeze(1)
    if x.ndim == 4 and x.shape[3] in _COLOURS and x.shape[1] not in _COLOURS:
        return x.permute(0, 3, 1, 2)
    return x
