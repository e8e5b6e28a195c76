"""Images in a folder, one sub-folder a class: ``folder:PATH``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from robcert.data.source import SPLITS, Images, Request, dataset
from robcert.errors import EvaluationError, UsageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
_LAYOUT = "Expected: PATH/CLASS/IMAGE.png, one sub-folder for each class, or that below PATH/test and PATH/train."
_GREY = frozenset({"1", "L", "LA", "I", "F", "I;16"})
_DEEP = frozenset({"I", "F", "I;16"})


def _places(request: Request) -> list[tuple[Path, bool]]:
    assert request.path is not None
    return [(request.path, request.path.is_dir())]


@dataset("folder", title="image folder (folder:PATH)", places=_places, from_path=True)
def read_folder(request: Request) -> Images:
    """Reads all images below ``PATH/CLASS``; or below ``PATH/SPLIT/CLASS``, whatever else stands beside the split.

    Classes and images are sorted by name, so an index means the same image as long as no file comes or goes.
    Grey images stay grey if all are; otherwise all become RGB. Pixels are 8 bits, divided by 255.

    Raises:
        UsageError: no such folder.
        EvaluationError: no class, no image, only folders in place of images, a file that is no image, images of
            different sizes.
    """
    root = request.path
    assert root is not None
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", _LAYOUT)
    split = root / request.split
    if {folder.name for folder in _folders(root)} == set(SPLITS) or (split.is_dir() and _only_folders(split)):
        root = split
    folders = _folders(root)
    files = [
        (path, label) for label, folder in enumerate(folders) for path in sorted(folder.rglob("*")) if _is_picture(path)
    ]
    if not files:
        found = f"{len(folders)} sub-folders without images" if folders else "no sub-folders"
        raise EvaluationError(f"{root} holds {found}", _LAYOUT)
    if not any(path.parent in folders for path, _ in files):
        # Splits under other names, or a level too many: what they hold are the classes, they are none.
        deeper = [f"{folder.name}/{inner[0].name}" for folder in folders if (inner := _folders(folder))]
        found = ", ".join([*deeper[:3], *(["..."] if deeper[3:] else [])])
        raise EvaluationError(
            f"{root} holds no images one level down, only further folders ({found})",
            f"{_LAYOUT} Name the folder that holds the classes, or another --split.",
        )
    pictures = [open_picture(path) for path, _ in files]
    size = pictures[0].size
    for (path, _), picture in zip(files, pictures, strict=True):
        if picture.size != size:
            raise EvaluationError(
                f"{path} is {_size(picture.size)}, but {files[0][0]} is {_size(size)}; one size is needed",
                "Resize or crop them first.",
            )
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    x = torch.from_numpy(np.stack([np.array(picture.convert(mode)) for picture in pictures]))
    x = x.unsqueeze(1) if mode == "L" else x.permute(0, 3, 1, 2)
    return Images(x, torch.tensor([label for _, label in files]), tuple(folder.name for folder in folders))


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _only_folders(folder: Path) -> bool:
    """Whether sub-folders are in it, and no image beside them."""
    return bool(_folders(folder)) and not any(_is_picture(entry) for entry in _visible(folder))


def open_picture(path: Path) -> Image.Image:
    """The image as 8-bit grey or RGB.

    Raises:
        EvaluationError: it is no image, or has more than 8 bits a pixel.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode in _DEEP:
                # Pillow would clip 16 bits to 8 without a word.
                raise EvaluationError(f"{path} has more than 8 bits a pixel", "Convert it to 8 bits, or use npz:PATH.")
            return picture.convert("L" if picture.mode in _GREY else "RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise EvaluationError(f"{path} is no image: {error}", "Repair or remove it.") from error


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
