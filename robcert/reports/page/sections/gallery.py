"""The closest adversarial examples of every model."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robcert.reports.gallery import Example, examples_of, picture_of
from robcert.reports.page.parts import Picture, Section
from robcert.reports.page.sources import Run, Sources
from robcert.runs.artefacts import artefact_name

_EACH = 8
_LARGEST = 128
"""Pixels; larger images are made smaller, so that a page stays a page."""


def gallery(sources: Sources) -> Section | None:
    """Original, difference and adversarial example, the closest first."""
    pictures = [
        picture
        for run in sources.runs
        for number in range(len(run.record.models))
        for picture in _of_model(run, number)
    ]
    if not pictures:
        return None
    return Section(
        "Closest adversarial examples",
        "Verified: inside the box and the budget, and answered wrongly by the float32 network. The difference is "
        "stretched to its own largest entry; in one channel red is brighter and blue is darker.",
        pictures=pictures,
    )


def _of_model(run: Run, number: int) -> list[Picture]:
    if run.directory is None or run.spec is None:
        return []
    path = run.directory / f"adversarials-{artefact_name(run.spec, number)}.safetensors"
    if not path.is_file():
        return []
    norm, _, examples = examples_of(path)
    closest = sorted(examples, key=lambda example: (example.distance, example.index))[:_EACH]
    model = run.record.models[number].name
    return [_picture(example, model, norm) for example in closest]


def _picture(example: Example, model: str, norm: str) -> Picture:
    difference = example.adversarial - example.x
    reach = float(np.abs(difference).max()) or 1.0
    colored = difference.ndim == 3 and difference.shape[0] == 3
    shown = picture_of(0.5 + difference / (2 * reach)) if colored else _two_colors(picture_of(difference) / reach)
    return Picture(
        original=_uri(picture_of(example.x)),
        difference=_uri(shown),
        adversarial=_uri(picture_of(example.adversarial)),
        title=f"{model}, image {example.index}",
        text=f"{norm} distance {example.distance:.4g}: {example.label} is answered as {example.adversarial_label}",
    )


def _two_colors(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """-1 blue, 0 white, 1 red: (h, w) to (h, w, 3)."""
    up, down = np.clip(values, 0, 1)[..., None], np.clip(-values, 0, 1)[..., None]
    red, blue = np.array([0.79, 0.09, 0.11]), np.array([0.02, 0.32, 0.67])
    return (1 - up * (1 - red) - down * (1 - blue)).astype(np.float32)


def _uri(values: NDArray[np.float32]) -> str:
    pixels = np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
