"""The image processor and the class names of a folder of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from robcert.errors import RobcertError, first_line
from robcert.network.libraries._packages import package
from robcert.preparation import Interpolation, Labels, Pipeline

if TYPE_CHECKING:
    from robcert.network.libraries._hub import Folder

_KEYS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std", "crop_pct", "do_convert_rgb",
)  # fmt: skip
_SEGMENTS = ("BeitImageProcessor", "MobileNetV2ImageProcessor", "SegformerImageProcessor")
"""Processors whose own methods are for maps of segments; pictures go through the usual ones."""
_STEPS = ("resize", "center_crop", "rescale", "normalize", "rescale_and_normalize", "_preprocess", "pad")


@dataclass(frozen=True)
class Prepared:
    """What an image processor does.

    transformers normalises bytes, with (255 x - 255 mean) / (255 std) in float32: mean and std are in that unit,
    rounded as it rounds them.

    Attributes:
        mean, std, scale: of `robcert.network.normalize.Normalize`.
        pipeline: resizing and cropping.
        unknown: why nothing of this is known; "" where it is.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    pipeline: Pipeline | None = None
    unknown: str = ""


def prepared(folder: Folder) -> Prepared:
    """Return what the image processor of a folder does, if it is one that resizes, crops the centre and normalises."""
    if folder.processor is None:
        return Prepared(unknown=f"{folder.where} has no preprocessor_config.json")
    name = ""
    try:
        kind = _class(folder.processor, folder.where)
        name = f"{kind.__name__} "
        found = kind(**{key: value for key, value in folder.processor.items() if key in _KEYS and value is not None})
        pipeline, scale = _pipeline(found), float(1 / found.rescale_factor)
        if not found.do_rescale:
            raise ValueError("its pixels are not divided by 255")
        if not found.do_normalize:
            return Prepared((0.0,), (1.0,), None, pipeline)
        return Prepared(_in_bytes(found.image_mean, scale), _in_bytes(found.image_std, scale), scale, pipeline)
    except RobcertError:
        raise
    except Exception as error:  # whatever a class says of values that it does not take
        return Prepared(unknown=f"the image processor {name}of {folder.where} is not understood: {first_line(error)}")


def labels(id2label: object) -> Labels:
    """Return the classes of a config.json; none where they are the LABEL_0, LABEL_1, ... of a network without names."""
    if not isinstance(id2label, Mapping) or not id2label:
        return Labels()
    numbered = {int(key): str(value) for key, value in id2label.items()}
    names = [numbered.get(number, str(number)) for number in range(max(numbered) + 1)]
    return Labels() if all(name == f"LABEL_{number}" for number, name in enumerate(names)) else Labels(tuple(names))


def _class(processor: Mapping[str, Any], where: str) -> Any:
    """Return the class of a processor.

    Raises:
        ValueError: it has steps of its own.
    """
    auto = package("transformers.models.auto.image_processing_auto", where)
    backends = package("transformers.image_processing_backends", where)
    name = str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or "")
    name = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    known = {one["torchvision"] for one in auto.IMAGE_PROCESSOR_MAPPING_NAMES.values() if "torchvision" in (one or {})}
    if name not in known:
        raise ValueError(f"{name or 'a processor without a name'} is none of transformers")
    kind = getattr(package("transformers", where), name)
    own = [step for step in _STEPS if getattr(kind, step) is not getattr(backends.TorchvisionBackend, step)]
    if own and name not in (*_SEGMENTS, "ConvNextImageProcessor"):
        raise ValueError(f"{name} has a {own[0]} of its own")
    return kind


def _in_bytes(values: Any, scale: float) -> tuple[float, ...]:
    import torch

    return tuple((torch.tensor(values).reshape(-1) * scale).tolist())


def _pipeline(found: Any) -> Pipeline:
    """Return the geometry of a processor.

    Raises:
        ValueError: a size of another kind.
    """
    from torchvision.transforms.functional import pil_modes_mapping

    filters = {code: mode.value for mode, code in pil_modes_mapping.items()}
    interpolation = cast(Interpolation, filters[int(found.resample)]) if found.resample is not None else "bilinear"
    resize, crop = _sides(found.size) if found.do_resize else (), None
    if getattr(found, "do_center_crop", None):
        crop = (int(found.crop_size["height"]), int(found.crop_size["width"]))
    if type(found).__name__ == "ConvNextImageProcessor" and resize:
        if crop is not None or len(resize) != 1:
            raise ValueError("its size is not that of the shortest edge alone")
        (edge,) = resize
        resize, crop = ((int(edge / found.crop_pct),), (edge, edge)) if edge < 384 else ((edge, edge), None)
    return Pipeline(resize, crop, interpolation, True, "transformers")


def _sides(size: Any) -> tuple[int, ...]:
    known = {key: int(value) for key, value in dict(size).items() if value is not None}
    if set(known) == {"shortest_edge"}:
        return (known["shortest_edge"],)
    if set(known) == {"height", "width"}:
        return known["height"], known["width"]
    raise ValueError(f"its size is {known}")
