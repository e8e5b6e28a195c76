"""Pictures of adversarial examples from a run directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from robcert.errors import UsageError, did_you_mean
from robcert.text import plain

MOST = 10
_NAME = 24
"""Letters of the name of a class in a picture."""
_RED, _BLUE = (0.79, 0.09, 0.11), (0.02, 0.32, 0.67)


@dataclass(frozen=True)
class Example:
    """One row of an adversarials file; labels with their names, where the data has any."""

    index: int
    label: int
    adversarial_label: int
    distance: float
    x: NDArray[np.float32]
    adversarial: NDArray[np.float32]
    label_name: str = ""
    adversarial_name: str = ""

    @property
    def answered(self) -> str:
        """What the network says in place of the label: "cat is answered as dog"."""
        return f"{self.label_name or self.label} is answered as {self.adversarial_name or self.adversarial_label}"


def draw(run: Path, model: str | None, wanted: list[int] | None, output: Path) -> str:
    """Draw original, difference and adversarial example of some images, in a grid.

    Args:
        run: a run directory.
        model: which model of the run, or None for the first.
        wanted: indices of images, or None for the closest `MOST`.
        output: the picture; its suffix decides the format.

    Returns:
        A line that says what was drawn and where it is.

    Raises:
        UsageError: no run, no such model, no example of such an image, a format that cannot be written.
    """
    names = sorted(
        path.name[len("adversarials-") : -len(".safetensors")] for path in run.glob("adversarials-*.safetensors")
    )
    if not names:
        raise UsageError(
            f"{run} has no adversarial examples (not a run directory, or the run is not finished)",
            "Run the attack to its end first: it prints the run directory",
        )
    name = model or names[0]
    if name not in names:
        raise UsageError(f"the run has no model {name!r}", did_you_mean(name, names))
    norm, eps, examples = examples_of(run / f"adversarials-{name}.safetensors")
    found = {example.index: example for example in examples}
    if wanted is None:
        chosen = sorted(examples, key=lambda example: example.distance)[:MOST]
        if not chosen:
            raise UsageError(f"no image of {name} was broken within {norm} {eps:g}: there is nothing to draw")
    else:
        missing = [index for index in wanted if index not in found]
        if missing:
            some = ", ".join(str(index) for index in sorted(found)[:12])
            raise UsageError(
                f"no adversarial example of image {missing[0]} of {name} within {norm} {eps:g} was found",
                f"There are examples of: {some}{' ...' if len(found) > 12 else ''}" if found else "Nothing was broken",
            )
        chosen = [found[index] for index in wanted]
    _plot(chosen, norm, name, output)
    return f"Drew {len(chosen)} of {len(examples)} examples of {name} to {output}"


def examples_of(path: Path) -> tuple[str, float, list[Example]]:
    """Return the norm, the largest budget and the examples of an adversarials file."""
    with safe_open(path, framework="np") as file:
        meta = json.loads((file.metadata() or {})["robcert"])
        columns = [
            file.get_tensor(key) for key in ("index", "label", "adversarial_label", "distance", "x", "adversarial")
        ]
    names = {int(label): plain(name, _NAME) for label, name in meta.get("classes", {}).items()}
    examples: list[Example] = []
    for index, label, other, distance, x, adversarial in zip(*columns, strict=True):
        called = names.get(int(label), ""), names.get(int(other), "")
        examples.append(Example(int(index), int(label), int(other), float(distance), x, adversarial, *called))
    return meta["norm"], max(meta["eps"]), examples


def picture_of(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (c, h, w), (h, w) or a flat vector as something that can be drawn."""
    if x.ndim == 3:
        return np.clip(x.transpose(1, 2, 0), 0, 1) if x.shape[0] == 3 else x[0]
    if x.ndim == 2:
        return x
    side = int(np.ceil(np.sqrt(x.size)))
    return np.pad(x.ravel(), (0, side * side - x.size)).reshape(side, side)


def difference_of(example: Example) -> NDArray[np.float32]:
    """Return the difference (h, w, 3), stretched to its own largest entry.

    In colour, grey is no difference; of one channel red is brighter, blue is darker and white is no difference.
    """
    difference = example.adversarial - example.x
    reach = float(np.abs(difference).max()) or 1.0
    if difference.ndim == 3 and difference.shape[0] == 3:
        return picture_of(0.5 + difference / (2 * reach))
    values = picture_of(difference) / reach
    up, down = np.clip(values, 0, 1)[..., None], np.clip(-values, 0, 1)[..., None]
    return (1 - up * (1 - np.array(_RED)) - down * (1 - np.array(_BLUE))).astype(np.float32)


def _plot(examples: Sequence[Example], norm: str, name: str, output: Path) -> None:
    from matplotlib.figure import Figure

    from robcert.plotting import style
    from robcert.reports.figures import save

    columns = max(1, min(4, round(0.7 * len(examples) ** 0.5)))
    rows = -(-len(examples) // columns)
    with style(axes__grid=False):
        figure = Figure(figsize=(4.3 * columns, 0.5 + 1.85 * rows), layout="constrained")
        figure.suptitle(f"{_literal(name)}: original, difference (stretched), adversarial example", fontsize=10)
        # An empty cell of the grid stays empty.
        for cell, example in zip(figure.subfigures(rows, columns, squeeze=False).ravel(), examples, strict=False):
            title = f"image {example.index}, {norm} distance {example.distance:.3g}\n{example.answered}"
            cell.suptitle(_literal(title), fontsize=9, linespacing=1.3)
            pictures = (picture_of(example.x), difference_of(example), picture_of(example.adversarial))
            for axes, picture in zip(cell.subplots(1, 3), pictures, strict=True):
                axes.axis("off")
                axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        save(figure, output, "--output")


def _literal(text: str) -> str:
    """Text in which a dollar does not start mathematics."""
    return text.replace("$", r"\$")
