"""From a name to a checked data set."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from robcert.data.check import check_images, check_labels
from robcert.data.source import SPLITS, Request, Source, Split, datasets
from robcert.data.subset import subset
from robcert.errors import UsageError, did_you_mean
from robcert.types import Dataset


def load_dataset(
    name: str,
    *,
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Dataset:
    """Reads a data set by name, checks it, and takes a stratified subset.

    Args:
        name: "digits", "mnist", ..., "npz:PATH" or "folder:PATH".
        split: "test" or "train".
        n: the size of the subset; None or more than there are: all images.
        seed: chooses the subset.
        data_dir: the folder of the files; default ``$ROBCERT_DATA``, then ``~/.cache/robcert``.
        download: whether missing files may be downloaded.

    Raises:
        UsageError: unknown name or split, a path is missing, n < 1.
        EvaluationError: the files are missing or cannot be used.
    """
    source, request = _request(name, split, data_dir, download)
    images = source.read(request)
    x = check_images(images.x, f"x of {name}")
    y = check_labels(images.y, len(x), len(images.classes) or None, f"y of {name}")
    classes = images.classes or tuple(str(label) for label in range(int(y.max()) + 1))
    data = Dataset(
        name=name,
        split=request.split,
        x=x.contiguous(),
        y=y.contiguous(),
        index=torch.arange(len(x)),
        classes=classes,
        title=source.title if not source.from_path else name,
    )
    return subset(data, n, seed)


def where(name: str, data_dir: str | os.PathLike[str] | None = None) -> list[tuple[Path, bool]]:
    """Every place in which the files of a data set are looked for, and whether they are there.

    Embedded data sets, and ``npz`` and ``folder`` without a path, have no place: the list is empty.

    Raises:
        UsageError: unknown name.
    """
    kind, _, path = name.partition(":")
    source = datasets.get(kind)
    if source.from_path and not path:
        return []
    source, request = _request(name, "test", data_dir, False)
    return source.places(request)


def _request(name: str, split: str, data_dir: str | os.PathLike[str] | None, download: bool) -> tuple[Source, Request]:
    chosen: list[Split] = [known for known in SPLITS if known == split]
    if not chosen:
        raise UsageError(f"unknown split {split!r}", did_you_mean(split, SPLITS))
    kind, colon, path = name.partition(":")
    source = datasets.get(kind)
    if source.from_path and not path:
        raise UsageError(f"the data set {kind!r} needs a path", f"Write {kind}:PATH, e.g. --data {kind}:my-images")
    if colon and not source.from_path:
        raise UsageError(
            f"the data set {kind!r} takes no path, but {name!r} was given",
            f"Write --data {kind} (and --data-dir FOLDER for its files).",
        )
    return source, Request(
        name=name,
        split=chosen[0],
        path=Path(path).expanduser() if path else None,
        data_dir=Path(data_dir) if data_dir is not None else None,
        download=download,
    )
