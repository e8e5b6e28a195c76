"""Images and labels as robcert wants them: float32 inside the box, one int64 label for each image."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.errors import EvaluationError

_LISTED = 3

MOST_CLASSES = 2**20
"""Every class gets a name; the largest data sets of images have some 10^4 of them."""


def check_images(x: Tensor, name: str, box: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """The images as float32, all entries finite and inside the box.

    uint8 is divided by 255, any floating dtype is converted.

    Args:
        x: (n, *shape).
        name: how a message calls the array.
        box: the smallest and largest value that an entry may take.

    Raises:
        EvaluationError: no images, another dtype, NaN or infinity, entries outside the box.
    """
    if x.ndim < 2 or x.numel() == 0:
        raise EvaluationError(
            f"{name} has the shape {tuple(x.shape)}, but at least one image was expected",
            "Give an array of shape (n, height, width), (n, channels, height, width) or (n, features).",
        )
    if x.dtype == torch.uint8:
        return x.to(torch.float32) / 255
    if not x.is_floating_point():
        raise EvaluationError(
            f"{name} holds {_dtype(x)}, but floats in [{box[0]:g}, {box[1]:g}] or uint8 were expected",
            "Convert it, e.g. x.astype('uint8') for pixels from 0 to 255.",
        )
    x = x.to(torch.float32)
    bad = ~torch.isfinite(x)
    if bool(bad.any()):
        images = _first(bad.flatten(1).any(1))
        raise EvaluationError(
            f"{name} holds {int(bad.sum())} entries that are NaN or infinite (image {images})",
            "Remove or repair these images.",
        )
    low, high = float(x.min()), float(x.max())
    if low < box[0] or high > box[1]:
        outside = ((x < box[0]) | (x > box[1])).flatten(1).any(1)
        raise EvaluationError(
            f"{name} has entries from {low:g} to {high:g}, but [{box[0]:g}, {box[1]:g}] was expected"
            f" (image {_first(outside)})",
            "Scale the images (pixels from 0 to 255: save them as uint8). Normalising by mean and standard"
            " deviation belongs to the model, not to the data.",
        )
    return x


def check_labels(y: Tensor, count: int, classes: int | None, name: str) -> Tensor:
    """The labels as int64 (n,), one for each image, from 0 to ``classes`` - 1.

    Args:
        y: (n,), integers, or floats that are whole numbers.
        count: the number of images.
        classes: the number of classes; None: the largest label decides.
        name: how a message calls the array.

    Raises:
        EvaluationError: another shape or length, not integers, out of range.
    """
    if y.ndim != 1:
        raise EvaluationError(
            f"{name} has the shape {tuple(y.shape)}, but one label for each image, ({count},), was expected",
            "Give the number of the class of each image (for one-hot labels: y.argmax(axis=1)).",
        )
    if len(y) != count:
        raise EvaluationError(
            f"{name} has {len(y)} labels for {count} images", "Give exactly one label for each image."
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise EvaluationError(
            f"{name} holds {_dtype(y)}, but integer labels were expected",
            "Convert it, e.g. y.astype('int64').",
        )
    y = y.to(torch.int64)
    low, high = int(y.min()), int(y.max())
    if classes is None and high >= MOST_CLASSES:
        raise EvaluationError(
            f"{name} has a label {high}, which would make {high + 1:,} classes; at most {MOST_CLASSES:,} are read",
            "Number the classes from 0.",
        )
    if low < 0 or (classes is not None and high >= classes):
        expected = "0 or more" if classes is None else f"0 to {classes - 1} ({classes} classes)"
        raise EvaluationError(
            f"{name} has labels from {low} to {high}, but {expected} was expected",
            "Number the classes from 0.",
        )
    return y


def _first(mask: Tensor) -> str:
    """The first few positions at which ``mask`` (n,) is true."""
    positions = mask.nonzero().flatten().tolist()
    listed = ", ".join(str(p) for p in positions[:_LISTED])
    return listed if len(positions) <= _LISTED else f"{listed} and {len(positions) - _LISTED} more"


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
