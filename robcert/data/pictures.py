"""Image files without labels, to be screened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robcert.data.folder import SUFFIXES, open_picture
from robcert.errors import EvaluationError, UsageError


def read_pictures(folder: Path, shape: tuple[int, ...]) -> tuple[list[Path], Tensor]:
    """All image files below a folder, sorted by name, as a network of that input shape takes them.

    Args:
        folder: where to look, sub-folders included.
        shape: (1 or 3, height, width); pictures become grey or RGB accordingly.

    Returns:
        The files, and (n, *shape) float32 in [0, 1].

    Raises:
        UsageError: no such folder, or no image in it.
        EvaluationError: a network that takes no pictures, a file that is no image or of another size.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise EvaluationError(
            f"pictures have 1 or 3 channels, a height and a width, but the model takes inputs of shape {shape}",
            "Screen arrays from Python: robcert.sensitivity.detection.Detector",
        )
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", "Name a folder of image files: --images DIR")
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not files:
        raise UsageError(f"{folder} holds no image", f"Known: {', '.join(sorted(SUFFIXES))}")
    pictures: list[Tensor] = []
    for path in files:
        picture = open_picture(path).convert("L" if shape[0] == 1 else "RGB")
        if picture.size != (shape[2], shape[1]):
            raise EvaluationError(
                f"{path} is {picture.size[0]}x{picture.size[1]}, but the model takes {shape[2]}x{shape[1]}",
                "Resize or crop it first: robcert does not choose how.",
            )
        pixels = torch.from_numpy(np.array(picture)).to(torch.float32) / 255
        pictures.append(pixels.unsqueeze(0) if shape[0] == 1 else pixels.permute(2, 0, 1))
    return files, torch.stack(pictures)
