"""The closest adversarial examples of every model."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robcert.reports.gallery import Example, difference_of, examples_of, picture_of
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
    return Picture(
        original=_uri(picture_of(example.x)),
        difference=_uri(difference_of(example)),
        adversarial=_uri(picture_of(example.adversarial)),
        title=f"{model}, image {example.index}",
        text=f"{norm} distance {example.distance:.4g}: {example.answered}",
    )


def _uri(values: NDArray[np.float32]) -> str:
    pixels = np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
