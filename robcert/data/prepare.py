"""Pictures as a network expects them: resized and cropped as its library does it, to the bit."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from robcert.data.picture import Picture
from robcert.errors import EvaluationError
from robcert.preparation import Pipeline


def prepared(pictures: Sequence[Picture], paths: Sequence[Path], pipeline: Pipeline) -> list[Picture]:
    """Return pictures after a pipeline, all of one size.

    Raises:
        EvaluationError: a picture is smaller than what is cut out of it.
    """
    return [
        replace(picture, pixels=_prepared(picture.pixels, path, pipeline))
        for picture, path in zip(pictures, paths, strict=True)
    ]


def _prepared(pixels: Any, path: Path, pipeline: Pipeline) -> Any:
    """(h, w, c) uint8 or float32 -> the same of another size."""
    # Pillow has no pictures of several channels with more than 8 bits: they are resized as tensors.
    bytes_of_pillow = pipeline.library != "transformers" and pixels.dtype == np.uint8
    found = _by_pillow(pixels, path, pipeline) if bytes_of_pillow else _by_torch(pixels, path, pipeline)
    return np.ascontiguousarray(found)


def _by_pillow(pixels: Any, path: Path, pipeline: Pipeline) -> Any:
    functional, interpolation = _functional("functional", pipeline)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if pipeline.resize:
        picture = functional.resize(picture, list(pipeline.resize), interpolation=interpolation)
    if pipeline.crop is not None:
        _check(path, (picture.height, picture.width), pipeline.crop)
        picture = functional.center_crop(picture, list(pipeline.crop))
    found = np.array(picture)
    return found[..., None] if found.ndim == 2 else found


def _by_torch(pixels: Any, path: Path, pipeline: Pipeline) -> Any:
    functional, interpolation = _functional("v2.functional", pipeline)
    x = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    if pipeline.resize:
        x = functional.resize(x, list(pipeline.resize), interpolation=interpolation, antialias=pipeline.antialias)
    if pipeline.crop is not None:
        height, width = pipeline.crop
        _check(path, (x.shape[1], x.shape[2]), pipeline.crop)
        down = pipeline.library == "transformers"
        top, left = (room // 2 if down else round(room / 2) for room in (x.shape[1] - height, x.shape[2] - width))
        x = x[:, top : top + height, left : left + width]
    x = x.permute(1, 2, 0)
    return (x if x.dtype == torch.uint8 else x.clamp(0, 1)).numpy()  # bicubic overshoots


def _functional(module: str, pipeline: Pipeline) -> tuple[Any, Any]:
    from robcert.vision import torchvision

    name = torchvision().__name__
    functional = importlib.import_module(f"{name}.transforms.{module}")
    return functional, importlib.import_module(f"{name}.transforms").InterpolationMode(pipeline.interpolation)


def _check(path: Path, size: tuple[int, int], crop: tuple[int, int]) -> None:
    if size[0] < crop[0] or size[1] < crop[1]:
        raise EvaluationError(
            f"{path} is {size[1]}x{size[0]} where its centre of {crop[1]}x{crop[0]} is to be cut out",
            "Leave it out, or enlarge it: libraries would pad it with black.",
        )
