"""Images in a folder, one sub-folder a class: ``folder:PATH``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robcert.data.named import by_labels
from robcert.data.order import check_covers, default_order, gaps, is_numeric, names_of, shown
from robcert.data.picture import Picture, read_picture
from robcert.data.prepare import prepared
from robcert.data.source import SPLITS, Images, Request, dataset
from robcert.data.subset import chosen
from robcert.data.walk import below, entries, folders, is_picture
from robcert.errors import EvaluationError, UsageError
from robcert.preparation import Preparation

_LAYOUT = "Expected: PATH/CLASS/IMAGE.png, one sub-folder for each class, or that below PATH/test and PATH/train."


def _places(request: Request) -> list[tuple[Path, bool]]:
    assert request.path is not None
    return [(request.path, request.path.is_dir())]


@dataset("folder", title="image folder (folder:PATH)", places=_places, from_path=True, named=True)
def read_folder(request: Request) -> Images:
    """Read all pictures below ``PATH/CLASS``; or below ``PATH/SPLIT/CLASS``, whatever else stands beside the split.

    A folder is a class if a picture is in it, at any depth. Classes are numbered in the order of their names, by value
    where all are numbers, or as the class order says; pictures are sorted by name, so an index means the same picture
    as long as no file comes or goes. Of a subset the other pictures are not opened. Grey pictures stay grey if all that
    are read are; otherwise all become RGB. Where a network says how pictures are prepared and what its classes are
    called, they are resized and cropped so, and numbered by these names.

    Raises:
        UsageError: no such folder; a class without a number, or that the network does not have.
        EvaluationError: no class, no picture, only folders in place of pictures, a file that is no picture, pictures of
            different sizes.
    """
    root = request.path
    assert root is not None
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", _LAYOUT)
    split = root / request.split
    if {folder.name for folder in folders(root)} == set(SPLITS) or (split.is_dir() and _only_folders(split)):
        root = split
    found = {folder: below(folder) for folder in folders(root)}
    classes = [folder for folder, inside in found.items() if inside.pictures]
    if not classes:
        held = f"{len(found)} sub-folders without images" if found else "no sub-folders"
        raise EvaluationError(f"{root} holds {held}", _LAYOUT)
    if not any(path.parent == folder for folder in classes for path in found[folder].pictures):
        # Splits under other names, or a level too many: what they hold are the classes, they are none.
        deeper = [f"{folder.name}/{inner[0].name}" for folder in classes if (inner := folders(folder))]
        listed = ", ".join([*deeper[:3], *(["..."] if deeper[3:] else [])])
        raise EvaluationError(
            f"{root} holds no images one level down, only further folders ({listed})",
            f"{_LAYOUT} Name the folder that holds the classes, or another --split.",
        )
    names = default_order(folder.name for folder in classes)
    known, order = request.preparation, request.class_order
    said = by_labels(names, known, f"folders of {root}") if order is None and known is not None else None
    if order is not None:
        check_covers(order, names, f"folders of {root}")
    order = order or said
    numbers = order or {name: number for number, name in enumerate(names)}
    # In the order of the names, whatever the numbers: the index of a picture does not depend on the class order.
    classes.sort(key=lambda folder: names.index(folder.name))
    y = torch.tensor([numbers[folder.name] for folder in classes for _ in found[folder].pictures])
    paths = [path for folder in classes for path in found[folder].pictures]
    index = chosen(y, request.n, request.seed)
    if index is not None:  # a picture takes milliseconds, and the whole folder may not fit into memory
        y, paths = y[index], [paths[position] for position in index.tolist()]
    pictures = [read_picture(path) for path in paths]
    called = known.labels.names if said and known else names_of(numbers)
    notes = [_told(numbers, known) if said and known else f"classes {_how(names, order is not None)}: {shown(called)}"]
    pipeline = None if known is None else known.pipeline
    if pipeline is not None:
        pictures = prepared(pictures, paths, pipeline)
        notes.append(f"pictures were {pipeline}")
    empty = [folder.name for folder in found if folder not in classes and folder.name not in numbers]
    if empty:
        notes.append(f"{len(empty)} folders hold no picture and are no class: {', '.join(empty[:3])}")
    notes += [*_passed_over(root, [found[folder].others for folder in classes]), *what_happened(paths, pictures)]
    x = stacked(paths, pictures, "Resize or crop them first: robcert does not choose how.")
    return Images(x, y, called, order is None, tuple(notes), index, said, pipeline)


def stacked(paths: Sequence[Path], pictures: Sequence[Picture], advice: str) -> Tensor:
    """Pictures of one size as (n, channels, height, width): grey if all are; uint8 if all are.

    Raises:
        EvaluationError: they have different sizes.
    """
    size = pictures[0].pixels.shape[:2]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.pixels.shape[:2] != size:
            raise EvaluationError(
                f"{path} is {_size(picture.pixels.shape)}, but {paths[0]} is {_size(size)}; one size is needed", advice
            )
    channels = max(picture.pixels.shape[2] for picture in pictures)
    exact = all(picture.pixels.dtype == np.uint8 for picture in pictures)
    x = np.empty((len(pictures), *size, channels), dtype=np.uint8 if exact else np.float32)
    for place, picture in enumerate(pictures):
        narrow = picture.pixels.dtype == np.uint8
        x[place] = picture.pixels / np.float32(255) if narrow and not exact else picture.pixels
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def what_happened(paths: Sequence[Path], pictures: Sequence[Picture]) -> list[str]:
    """One line for each thing that was done to some of the pictures: how many, and the first of them."""
    counts = Counter(what for picture in pictures for what in picture.happened)
    first = {what: p for p, picture in reversed(list(zip(paths, pictures, strict=True))) for what in picture.happened}
    return [f"{count} of {len(paths)} pictures {what} ({first[what].name})" for what, count in counts.items()]


def _told(numbers: Mapping[str, int], known: Preparation) -> str:
    first = [f"{name} is {number} {known.labels.names[number]!r}" for name, number in list(numbers.items())[:3]]
    return f"classes as {known.model} calls them: {', '.join(first)}{', ...' if len(numbers) > 3 else ''}"


def _how(names: Sequence[str], said: bool) -> str:
    if said:
        return "in the given order"
    if gaps(names):
        return "by place, though their names are numbers with gaps (--class-order says it otherwise)"
    if is_numeric(names):
        return "in the order of their numbers (torchvision's ImageFolder has 1, 10, 2; --class-order says it otherwise)"
    return "in alphabetical order (--class-order says it otherwise)"


def _passed_over(root: Path, others: Sequence[Counter[str]]) -> list[str]:
    """Return a note about what lies among the pictures and beside the classes, and was not read."""
    notes: list[str] = []
    suffixes = sum(others, Counter[str]())
    if suffixes:
        listed = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in suffixes.most_common(4))
        notes.append(f"{suffixes.total()} files among the pictures were not read, by their suffix: {listed}")
    if beside := [entry.name for entry in entries(root) if is_picture(entry)]:
        notes.append(f"{len(beside)} pictures beside the folders of classes belong to none ({beside[0]})")
    return notes


def _only_folders(folder: Path) -> bool:
    """Return whether sub-folders are in it, and no picture beside them."""
    return bool(folders(folder)) and not any(is_picture(entry) for entry in entries(folder))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
