"""Pictures of adversarial examples from a run directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from robcert.errors import UsageError, did_you_mean

MOST = 10


@dataclass(frozen=True)
class Example:
    """One row of an adversarials file."""

    index: int
    label: int
    adversarial_label: int
    distance: float
    x: NDArray[np.float32]
    adversarial: NDArray[np.float32]


def draw(run: Path, model: str | None, wanted: list[int] | None, output: Path) -> str:
    """Draw a row an image: original, difference, adversarial example.

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
    """The norm, the largest budget and the examples of an adversarials file."""
    with safe_open(path, framework="np") as file:
        meta = json.loads((file.metadata() or {})["robcert"])
        columns = [
            file.get_tensor(key) for key in ("index", "label", "adversarial_label", "distance", "x", "adversarial")
        ]
    examples = [
        Example(int(index), int(label), int(other), float(distance), x, adversarial)
        for index, label, other, distance, x, adversarial in zip(*columns, strict=True)
    ]
    return meta["norm"], max(meta["eps"]), examples


def _plot(examples: list[Example], norm: str, name: str, output: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.3, 0.4 + 2.1 * len(examples)), layout="constrained")
    axes = figure.subplots(len(examples), 3, squeeze=False)
    figure.suptitle(name, fontsize=10)
    for row, example in zip(axes, examples, strict=True):
        difference = example.adversarial - example.x
        reach = float(np.abs(difference).max()) or 1.0
        titles = (
            f"image {example.index}: {example.label}",
            f"{norm} distance {example.distance:.3g}",
            f"answered {example.adversarial_label}",
        )
        for axis, title in zip(row, titles, strict=True):
            axis.set_title(title, fontsize=9)
            axis.axis("off")
        row[0].imshow(picture_of(example.x), cmap="gray", vmin=0, vmax=1)
        if difference.ndim == 3 and difference.shape[0] == 3:
            row[1].imshow(picture_of(0.5 + difference / (2 * reach)))
        else:
            row[1].imshow(picture_of(difference), cmap="RdBu_r", vmin=-reach, vmax=reach)
        row[2].imshow(picture_of(example.adversarial), cmap="gray", vmin=0, vmax=1)
    try:
        figure.savefig(output, dpi=150)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {output} ({error})", "Name a .png, .svg or .pdf file with --output") from None


def picture_of(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """(c, h, w), (h, w) or a flat vector as something that can be drawn."""
    if x.ndim == 3:
        return np.clip(x.transpose(1, 2, 0), 0, 1) if x.shape[0] == 3 else x[0]
    if x.ndim == 2:
        return x
    side = int(np.ceil(np.sqrt(x.size)))
    return np.pad(x.ravel(), (0, side * side - x.size)).reshape(side, side)
