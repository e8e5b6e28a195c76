"""Images as a network takes them: the same pixels in another number of channels or another shape."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robcert.data.order import gaps
from robcert.errors import UsageError
from robcert.types import Dataset, LoadedModel

Shape = tuple[int, ...]
_LUMA = (0.299, 0.587, 0.114)


def fit_to(data: Dataset, models: Sequence[LoadedModel]) -> Dataset:
    """Return the images as these models take them; what was changed is added to the notes.

    Grey images become RGB, RGB ones grey; an image is flattened, or flat entries become an image, where that can be
    done in one way only. Nothing is ever resized.

    Raises:
        UsageError: the models take inputs of different shapes, or of one that the images cannot have; a label that is
            beyond the classes of a model.
    """
    wanted = {tuple(model.input_shape): model.name for model in models}
    if len(wanted) > 1:
        listed = ", ".join(f"{name} {_text(shape)}" for shape, name in wanted.items())
        raise UsageError(f"these models take inputs of different shapes: {listed}", "Run them one at a time.")
    notes: list[str] = []
    for shape, name in wanted.items():
        fitted = refit(data.x, shape)
        if fitted is None:
            raise UsageError(
                f"{name} takes inputs of shape {_text(shape)}, but {data.name} has {_text(data.shape)}",
                _advice(data.shape, shape),
            )
        data = dataclasses.replace(data, x=fitted[0])
        notes += [f"{fitted[1]}, as {name} takes {_text(shape)}"] if fitted[1] else []
    for model in models:
        notes += _check_labels(data, model)
    return dataclasses.replace(data, notes=(*data.notes, *dict.fromkeys(notes)))


def refit(x: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
    """Images of another shape, and a sentence about how they came to it; None where they cannot have it.

    Args:
        x: (n, *) with channels first.
        shape: of one input of a network.

    Returns:
        (n, *shape), and "" where nothing was to be done.
    """
    for images, said in _channels(x):
        if (found := _arranged(images, shape)) is not None:
            return found[0], " and ".join(filter(None, (said, found[1])))
    return None


def reachable(shape: Shape) -> list[Shape]:
    """The shapes that `refit` can give to images, the nearest first: with other channels, and flat."""
    channels = [(3 if shape[0] == 1 else 1, *shape[1:])] if len(shape) == 3 and shape[0] in (1, 3) else []
    return [shape, *channels, *((math.prod(one),) for one in (shape, *channels) if len(one) > 1)]


def _channels(x: Tensor) -> list[tuple[Tensor, str]]:
    """The images as they are, then with one channel in place of three or the other way round."""
    found = [(x, "")]
    if x.ndim == 4 and x.shape[1] == 1:
        found.append((x.expand(-1, 3, -1, -1), "grey images were repeated in three channels"))
    if x.ndim == 4 and x.shape[1] == 3:
        first, rest = x[:, :1], x[:, 1:]
        if bool((rest == first).all()):
            found.append((first, "three equal channels became one"))
        else:
            luma = (x * torch.tensor(_LUMA, dtype=x.dtype, device=x.device).view(3, 1, 1)).sum(1, keepdim=True)
            low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
            grey = torch.minimum(torch.maximum(luma, low), high)  # rounding never leaves the box
            found.append((grey, "RGB images became grey (0.299 R + 0.587 G + 0.114 B)"))
    return found


def _arranged(x: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
    """The same entries in another shape, if there is one way to read it."""
    now = tuple(x.shape[1:])
    if now == shape:
        return x.contiguous(), ""
    if math.prod(now) != math.prod(shape):
        return None
    several = len(now) == 3 and now[0] > 1
    if several and shape == (*now[1:], now[0]):
        return x.movedim(1, -1).contiguous(), "channels were moved last"
    here, there = _long(now), _long(shape)
    order = ", channels first" if several or (len(shape) == 3 and shape[0] > 1) else ""
    flattened = len(there) == 1
    unflattened = len(here) == 1 and (len(there) == 2 or (len(shape) == 3 and shape[0] in (1, 3)))
    if here != there and not flattened and not unflattened:
        return None
    said = "" if here == there else f" ({'flattened' if flattened else 'unflattened'} row by row{order})"
    return x.reshape(len(x), *shape), f"images of shape {_text(now)} are given as {_text(shape)}{said}"


def _check_labels(data: Dataset, model: LoadedModel) -> list[str]:
    """What is to be said about the classes of data and model.

    Raises:
        UsageError: the data have a label that the model has no answer for, or it is not known which answer a class is.
    """
    classes, most = model.num_classes, int(data.y.max()) if len(data) else 0
    ways_out = "--class-order FILE gives every class its number" if data.ranked else "Name other data with --data"
    if most >= classes:
        named = f" ({data.classes[most]!r})" if most < len(data.classes) and data.classes[most] != str(most) else ""
        raise UsageError(f"{model.name} has {classes} classes, but {data.name} has the label {most}{named}", ways_out)
    if not data.ranked or len(data.classes) >= classes:
        return []
    if gaps(data.classes) and max(map(int, data.classes)) < classes:
        last = data.classes[-1]
        raise UsageError(
            f"the classes of {data.name} are numbers with gaps ({', '.join(data.classes[:4])}...), and {model.name} has "
            f"{classes} classes: is {last!r} class {last} or class {len(data.classes) - 1}?",
            f'Say it: --class-order FILE, with a JSON table such as {{"{last}": {last}}} of all classes in it',
        )
    return [
        f"{model.name} has {classes} classes and {data.name} has {len(data.classes)}: class k of the data is taken as "
        f"answer k of the model (--class-order says it otherwise)"
    ]


def _advice(now: Shape, shape: Shape) -> str:
    if len(now) == len(shape) == 3 and now[1:] != shape[1:]:
        size = ",".join(map(str, (shape[0], *now[1:])))
        return (
            f"Resize the images first: robcert does not choose how. Or, if the model takes other sizes too: "
            f"--input-shape {size}"
        )
    return "Name other data with --data, or save the images in that shape: npz:PATH takes (n, ...)."


def _long(shape: Shape) -> Shape:
    """The axes that have more than one entry."""
    return tuple(size for size in shape if size != 1)


def _text(shape: Shape) -> str:
    return "x".join(str(size) for size in shape)
