"""Images and labels as robcert wants them: float32 inside the box, one int64 label for each image."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.errors import EvaluationError

_LISTED = 3

_NOISE = 1e-5
"""What floating-point arithmetic leaves outside the box (resizing, normalising and back), as a share of its width."""

_DARK = 0.1
"""Images whose largest entry is below this share of the box: divided by 255 twice, or 0 and 1 stored as bytes."""

MOST_CLASSES = 2**20
"""Every class gets a name; the largest data sets of images have some 10^4 of them."""


def check_images(x: Tensor, name: str, box: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """The images as float32, all entries finite and inside the box.

    uint8 is divided by 255, any floating dtype is converted, and booleans are 0 and 1.

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
        x = x.to(torch.float32) / 255
    elif x.dtype == torch.bool:
        x = x.to(torch.float32)
    elif not x.is_floating_point():
        raise EvaluationError(
            f"{name} holds {_dtype(x)}, but floats in [{box[0]:g}, {box[1]:g}] or uint8 were expected",
            _converted(x),
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
            f"{name} has entries from {_outside(low, box)} to {_outside(high, box)}, but [{box[0]:g}, {box[1]:g}] was "
            f"expected (image {_first(outside)})",
            "Scale the images (pixels from 0 to 255: save them as uint8). Normalising by mean and standard"
            " deviation belongs to the model, not to the data.",
        )
    return x


def without_noise(x: Tensor, name: str, box: tuple[float, float] = (0.0, 1.0)) -> tuple[Tensor, list[str]]:
    """The images with entries that rounding left just outside the box moved into it, and a note where there are any.

    Images that are all but black get a note too: they were probably scaled twice.

    Args:
        x: (n, *shape), of any dtype; what is further outside is left as it is.
        name: how a message calls the array.
        box: the smallest and largest value that an entry may take.
    """
    notes: list[str] = []
    low, high = box
    if not x.is_floating_point():
        top = float(x.max()) / 255 if x.dtype == torch.uint8 and x.numel() else high
    else:
        least, top = (float(v) for v in x.aminmax()) if x.numel() else (low, high)
        slack = (high - low) * max(_NOISE, 2 * torch.finfo(x.dtype).eps)
        if not low <= least <= top <= high and low - slack <= least <= top <= high + slack:
            count = int(((x < low) | (x > high)).sum())
            x = x.clamp(low, high)
            notes.append(
                f"{count:,} entries of {name} were outside [{low:g}, {high:g}] by rounding (from {least:.9g} to "
                f"{top:.9g}) and were moved to its ends"
            )
    if top < low + _DARK * (high - low):
        notes.append(
            f"{name} is all but black: its largest entry is {top:.3g} of [{low:g}, {high:g}]. Was it divided by 255 "
            "twice, or are 0 and 1 stored as uint8?"
        )
    return x, notes


def check_labels(y: Tensor, count: int, classes: int | None, name: str) -> Tensor:
    """The labels as int64 (n,), one for each image, from 0 to ``classes`` - 1.

    Args:
        y: (n,) or (n, 1), integers, or floats that are whole numbers; or one-hot, (n, classes).
        count: the number of images.
        classes: the number of classes; None: the largest label decides.
        name: how a message calls the array.

    Raises:
        EvaluationError: another shape or length, not integers, out of range.
    """
    if y.is_complex() or (y.is_floating_point() and not bool((y.isfinite() & (y == y.round())).all())):
        what = "rows that are not one-hot" if y.ndim == 2 else "numbers that are not whole"
        raise EvaluationError(
            f"{name} holds {_dtype(y)}, {what}, but the number of a class was expected for each image",
            "For probabilities: y.argmax(axis=1).",
        )
    y = y.to(torch.int64)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.squeeze(1)
    elif one_hot(y):
        y = y.argmax(1)
    if y.ndim != 1:
        raise EvaluationError(
            f"{name} has the shape {tuple(y.shape)}, but one label for each image, ({count},), was expected",
            "Give the number of the class of each image. Rows with a single 1 in them are read as one-hot labels.",
        )
    if len(y) != count:
        raise EvaluationError(
            f"{name} has {len(y)} labels for {count} images", "Give exactly one label for each image."
        )
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


def one_hot(y: Tensor) -> bool:
    """Return whether every row of ``y`` has a single 1, and 0 elsewhere."""
    if y.ndim != 2 or y.shape[1] < 2 or not len(y):
        return False
    ones = y == 1
    return bool((ones | (y == 0)).all()) and bool((ones.sum(1) == 1).all())


def _outside(value: float, box: tuple[float, float]) -> str:
    """A number with as many digits as show on which side of the ends of the box it is."""
    short = f"{value:g}"
    inside = box[0] <= value <= box[1]
    return short if (box[0] <= float(short) <= box[1]) == inside else f"{value:.9g}"


def _converted(x: Tensor) -> str:
    """The way from integers to images."""
    if x.is_complex() or not x.numel():
        return "Give real numbers."
    x = x.to(torch.int64)  # torch has no minimum of uint16
    low, high = int(x.min()), int(x.max())
    if low >= 0 and high <= 255:
        return "Convert it: x.astype('uint8') for pixels from 0 to 255, x.astype('float32') for 0 and 1."
    return f"Its entries are from {low} to {high}: divide them by the value of white, e.g. x / 65535 for 16 bits."


def _first(mask: Tensor) -> str:
    """The first few positions at which ``mask`` (n,) is true."""
    positions = mask.nonzero().flatten().tolist()
    listed = ", ".join(str(p) for p in positions[:_LISTED])
    return listed if len(positions) <= _LISTED else f"{listed} and {len(positions) - _LISTED} more"


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
