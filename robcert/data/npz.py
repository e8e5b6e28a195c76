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
from robcert.data.arrays import choose
from robcert.data.check import one_hot
from robcert.data.order import check_covers, default_order, names_of, shown
from robcert.data.source import Images, Request, dataset
from robcert.errors import EvaluationError, UsageError

_EXAMPLE = "numpy.savez('images.npz', x=images, y=labels) writes such a file."
_COLOURS = (1, 3)
_LAST = (*_COLOURS, 4)


def _file(request: Request) -> Path:
    """The archive of the split: PATH/test.npz and PATH/train.npz if PATH is a folder, else PATH for both."""
    assert request.path is not None
    return request.path / f"{request.split}.npz" if request.path.is_dir() else request.path


def _places(request: Request) -> list[tuple[Path, bool]]:
    path = _file(request)
    return [(path, path.is_file())]


@dataset("npz", title="NumPy archive (npz:PATH)", places=_places, from_path=True, named=True)
def read_npz(request: Request) -> Images:
    """Read ``x``, ``y`` and, if it is there, ``classes``.

    A file is both splits, or holds both (``x_test``, ``train_labels``); a folder holds ``test.npz`` and ``train.npz``.
    Names such as ``images`` and ``labels``, or none (``arr_0``, ``arr_1``), are understood.

    ``x``: floats in [0, 1], or uint8, which is divided by 255.

    ============================  =======================================================================
    shape of ``x``                becomes
    ============================  =======================================================================
    (n, h, w)                     (n, 1, h, w): grey images
    (n, h, w, 1), 3 or 4          (n, c, h, w), unless the second size is 1 or 3
    (n, 1, h, w), (n, 3, h, w)    itself, whatever the last size is
    any other (n, ...)            itself
    ============================  =======================================================================

    ``y``: (n,) or (n, 1) whole numbers from 0, one-hot rows (n, classes), or names. ``classes``: their names.

    Raises:
        UsageError: no such file; a class order for labels that are numbers.
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
            chosen = choose(list(archive.files), request.split, str(path), _EXAMPLE)
            x = _tensor(archive[chosen.images], f"{chosen.images} of {path}")
            given = archive[chosen.labels]
            classes = _names(archive[chosen.classes], path) if chosen.classes else ()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, TokenError, NotImplementedError) as error:
        raise EvaluationError(f"{path} cannot be read as a NumPy archive: {error}", _EXAMPLE) from error
    notes = [] if chosen.usual else [f"{chosen.images} are the images and {chosen.labels} the labels"]
    if given.dtype.kind in "US":
        return _named(_channels_first(x), given, classes, request, notes)
    y = _tensor(given, f"{chosen.labels} of {path}")
    if request.class_order is not None:
        raise UsageError(f"the labels of {path} are numbers already", "Leave --class-order out.")
    if one_hot(y if y.is_floating_point() else y.to(torch.int64)):
        notes.append(f"the labels are one-hot: {y.shape[1]} classes")
        classes = classes or tuple(str(number) for number in range(y.shape[1]))
    return Images(_channels_first(x), y, classes, notes=tuple(notes))


def _named(x: torch.Tensor, labels: Any, classes: tuple[str, ...], request: Request, notes: list[str]) -> Images:
    """Images whose labels are names: numbered by the class order, by ``classes``, or in their own order."""
    texts = [_text(label) for label in labels.ravel()]
    names = default_order(set(texts))
    order = request.class_order or {name: number for number, name in enumerate(classes or names)}
    check_covers(order, names, f"names in the labels of {request.path}")
    ranked = request.class_order is None and not classes
    notes.append(f"the labels are names{' in alphabetical order' if ranked else ''}: {shown(names_of(order))}")
    y = torch.tensor([order[text] for text in texts]).reshape(labels.shape)
    return Images(x, y, names_of(order), ranked=ranked, notes=tuple(notes))


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
    return tuple(_text(name) for name in array)


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    if x.ndim == 3:
        return x.unsqueeze(1)
    if x.ndim == 4 and x.shape[3] in _LAST and x.shape[1] not in _COLOURS:
        return x.permute(0, 3, 1, 2)
    return x
