"""Image files without labels, to be screened."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from robcert.data.check import check_images
from robcert.data.folder import stacked, what_happened
from robcert.data.picture import SUFFIXES, read_picture
from robcert.data.prepare import prepared
from robcert.data.walk import below
from robcert.errors import EvaluationError, UsageError
from robcert.math.shapes import refit, shape_text
from robcert.preparation import Pipeline


def read_pictures(
    folder: Path, shape: tuple[int, ...], pipeline: Pipeline | None = None
) -> tuple[list[Path], Tensor, list[str]]:
    """All image files below a folder, sorted by name, as a network of that input shape takes them.

    Args:
        folder: where to look, sub-folders included.
        shape: of an input of the network; grey pictures become RGB and the other way round.
        pipeline: how the network wants pictures resized and cropped; None: they have its size.

    Returns:
        The files, (n, *shape) float32 in [0, 1], and what was done to some of them.

    Raises:
        UsageError: no such folder, or no image in it.
        EvaluationError: a network that takes no pictures, a file that is no image or of another size.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", "Name a folder of image files: --images DIR")
    files = below(folder).pictures
    if not files:
        raise UsageError(f"{folder} holds no image", f"Known: {', '.join(sorted(SUFFIXES))}")
    pictures = [read_picture(path) for path in files]
    done = [] if pipeline is None else [f"pictures were {pipeline}"]
    if pipeline is not None:
        pictures = prepared(pictures, files, pipeline)
    for path, picture in zip(files, pictures, strict=True):
        height, width = picture.pixels.shape[:2]
        if len(shape) == 3 and shape[0] in (1, 3) and (height, width) != shape[1:]:
            raise EvaluationError(
                f"{path} is {width}x{height}, but the model takes {shape[2]}x{shape[1]}",
                "Resize or crop it first: robcert does not choose how.",
            )
    x = stacked(files, pictures, "Resize or crop them first: robcert does not choose how.")
    images = check_images(x, f"the pictures of {folder}")
    fitted = refit(images, shape)
    if fitted is None:
        raise EvaluationError(
            f"{files[0]} is {shape_text(tuple(images.shape[1:]))}, but the model takes inputs of shape "
            f"{shape_text(shape)}",
            "Screen arrays from Python: robcert.sensitivity.detector.Detector",
        )
    x, said = fitted
    return list(files), x, [*what_happened(files, pictures), *done, *([said] if said else [])]
