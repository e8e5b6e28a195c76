"""From a name to a checked data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from robcert.data.check import check_images, check_labels, without_noise
from robcert.data.order import class_order as read_order
from robcert.data.source import SPLITS, Request, Source, Split, datasets
from robcert.data.subset import subset
from robcert.errors import UsageError, did_you_mean
from robcert.preparation import Preparation
from robcert.types import UNIT, Dataset


def load_dataset(
    name: str,
    *,
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    class_order: str | os.PathLike[str] | Sequence[str] | Mapping[str, int] | None = None,
    box: tuple[float, float] = UNIT,
    preparation: Preparation | None = None,
) -> Dataset:
    """Read a data set by name, check it, and take a stratified subset.

    Args:
        name: "digits", "mnist", ..., "npz:PATH" or "folder:PATH".
        split: "test" or "train".
        n: the size of the subset; None or more than there are: all images.
        seed: chooses the subset.
        data_dir: the folder of the files; default ``$ROBCERT_DATA``, then ``~/.cache/robcert``.
        download: whether missing files may be downloaded.
        class_order: the numbers of classes that have names only (the sub-folders of a folder): a file with a name a
            line, a JSON list of names or a JSON table of names to numbers; or such a list or mapping.
        box: the smallest and the largest value that an entry may take; the images are not scaled to it.
        preparation: for pictures: how they are resized and cropped, and what their classes are called
            (`robcert.network.preparation_of` its card).

    Returns:
        The images (n, *shape) float32 and labels (n,) int64, with their indices, the box and the names of the classes.

    Raises:
        UsageError: unknown name or split, a path is missing, n < 1, a class order where classes have numbers already.
        EvaluationError: the files are missing or cannot be used.
    """
    order = None if class_order is None else read_order(class_order)
    source, request = _request(name, split, data_dir, download, order)
    request = dataclasses.replace(request, n=n, seed=seed, preparation=preparation)
    images = source.read(request)
    x, notes = without_noise(images.x, f"x of {name}", box)
    x = check_images(x, f"x of {name}", box)
    y = check_labels(images.y, len(x), len(images.classes) or None, f"y of {name}")
    classes = images.classes or tuple(str(label) for label in range(int(y.max()) + 1))
    data = Dataset(
        name=name,
        split=request.split,
        x=x.contiguous(),
        y=y.contiguous(),
        index=torch.arange(len(x)) if images.index is None else images.index,
        classes=classes,
        box=box,
        title=source.title if not source.from_path else name,
        seed=None if images.index is None else seed,
        class_order=order if images.order is None else images.order,
        pipeline=images.pipeline,
        ranked=images.ranked,
        notes=tuple(f"{name}: {note}" for note in (*images.notes, *notes)),
    )
    return subset(data, n, seed) if images.index is None else data


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
    source, request = _request(name, "test", data_dir, False, None)
    return source.places(request)


def _request(
    name: str,
    split: str,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    class_order: Mapping[str, int] | None,
) -> tuple[Source, Request]:
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
    if class_order is not None and not source.named:
        raise UsageError(
            f"the classes of {name} have their numbers already, but a class order was given", "Leave --class-order out."
        )
    return source, Request(
        name=name,
        split=chosen[0],
        path=Path(path).expanduser() if path else None,
        data_dir=Path(data_dir) if data_dir is not None else None,
        download=download,
        class_order=class_order,
    )
