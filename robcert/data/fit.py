"""Images as a network takes them: the same pixels in another number of channels or another shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from robcert.data.order import gaps
from robcert.errors import UsageError
from robcert.math.shapes import Shape, refit, shape_text
from robcert.types import Dataset, LoadedModel


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
        listed = ", ".join(f"{name} {shape_text(shape)}" for shape, name in wanted.items())
        raise UsageError(f"these models take inputs of different shapes: {listed}", "Run them one at a time.")
    notes: list[str] = []
    for shape, name in wanted.items():
        fitted = refit(data.x, shape)
        if fitted is None:
            raise UsageError(
                f"{name} takes inputs of shape {shape_text(shape)}, but {data.name} has {shape_text(data.shape)}",
                _advice(data.shape, shape),
            )
        data = dataclasses.replace(data, x=fitted[0])
        notes += [f"{fitted[1]}, as {name} takes {shape_text(shape)}"] if fitted[1] else []
    for model in models:
        notes += _check_labels(data, model)
    return dataclasses.replace(data, notes=(*data.notes, *dict.fromkeys(notes)))


def _check_labels(data: Dataset, model: LoadedModel) -> list[str]:
    """Return notes about the classes of data and model.

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
            f"the classes of {data.name} are numbers with gaps ({', '.join(data.classes[:4])}...), and {model.name} "
            f"has {classes} classes: is {last!r} class {last} or class {len(data.classes) - 1}?",
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
