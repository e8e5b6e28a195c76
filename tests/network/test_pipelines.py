"""Pictures come to a network as its own library brings them there: the same pixels, normalised to the same bits."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from robcert.data.check import check_images
from robcert.data.picture import decode
from robcert.data.prepare import prepared
from robcert.network.card import Card
from robcert.network.libraries import libraries
from robcert.network.libraries._hub import Folder
from robcert.network.libraries._processor import prepared as processor_of
from robcert.network.normalize import with_normalization
from robcert.preparation import Pipeline
from robcert.vision import mend

TIMM = (
    "resnet50.a1_in1k", "convnext_atto.d2_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "mixer_b16_224.goog_in21k",
    "swin_tiny_patch4_window7_224.ms_in1k", "vit_base_patch16_clip_224.openai", "tf_efficientnetv2_s.in1k",
    "regnetx_002.pycls_in1k", "deit_tiny_patch16_224.fb_in1k", "resnetv2_50x1_bit.goog_in21k_ft_in1k",
)  # fmt: skip
TORCHVISION = (
    "resnet50@IMAGENET1K_V1", "resnet50@IMAGENET1K_V2", "swin_t@IMAGENET1K_V1", "regnet_y_16gf@IMAGENET1K_SWAG_E2E_V1",
    "inception_v3@IMAGENET1K_V1",
)  # fmt: skip
_CROP = {"size": {"shortest_edge": 50}, "crop_size": {"height": 45, "width": 44}, "do_center_crop": True}
TRANSFORMERS = {
    "ViTImageProcessor": {"size": {"height": 40, "width": 48}},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 40}},
    "DeiTImageProcessor": {**_CROP, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    "BitImageProcessor": _CROP,
    "BeitImageProcessor": {"size": {"height": 48, "width": 48}, "do_center_crop": False},
    "MobileNetV2ImageProcessor": _CROP,
    "PvtImageProcessor": {"size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.7, 0.4], "image_std": [0.3, 1, 2]},
    "SegformerImageProcessor": {"size": {"height": 33, "width": 32}},
}


def pictures() -> list[Image.Image]:
    """Noise, whose resizing shows any difference, of sizes that no share divides."""
    numbers = np.random.default_rng(0)
    return [Image.fromarray(numbers.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in ((301, 259), (97, 131))]


def ours(picture: Image.Image, card: Card) -> Tensor:
    """What the network behind a card is given, its own normalisation included."""
    found = decode(picture)
    if card.pipeline is not None:
        (found,) = prepared([found], [Path("picture")], card.pipeline)
    x = check_images(torch.from_numpy(found.pixels).permute(2, 0, 1)[None], "x")
    return with_normalization(nn.Identity(), card.mean, card.std, tuple(x.shape[1:]), card.scale)(x)[0]


def same(picture: Image.Image, card: Card, theirs: Tensor) -> None:
    found = ours(picture, card)
    assert found.shape == theirs.shape
    assert torch.equal(found, theirs), f"largest difference {float((found - theirs).abs().max())}"
    if card.input_shape is not None:
        assert tuple(found.shape) == card.input_shape


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    mend()
    timm = importlib.import_module("timm.data")
    card = libraries.get("timm").described(name)
    assert card.pipeline is not None
    config: dict[str, Any] = importlib.import_module("timm").get_pretrained_cfg(name).to_dict()
    transform = timm.create_transform(**timm.resolve_data_config(pretrained_cfg=config), is_training=False)
    for picture in pictures():
        same(picture, card, transform(picture))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    mend()
    models = importlib.import_module("torchvision.models")
    card = libraries.get("torchvision").described(name)
    arch, _, tag = name.partition("@")
    weights = models.get_model_weights(arch)[tag]
    for picture in pictures():
        same(picture, card, weights.transforms()(picture))
    assert card.labels is not None and card.labels.names == tuple(weights.meta["categories"])


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    mend()
    processor = getattr(importlib.import_module("transformers"), name)(**TRANSFORMERS[name])
    found = processor_of(Folder("folder", {}, json.loads(processor.to_json_string()), (), "folder"))
    assert not found.unknown
    card = Card(mean=found.mean, std=found.std, scale=found.scale, pipeline=found.pipeline)
    for picture in pictures():
        same(picture, card, processor(picture, return_tensors="pt")["pixel_values"][0])


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        ({"image_processor_type": "LevitImageProcessor"}, "resize of its own"),
        ({"image_processor_type": "EfficientNetImageProcessor"}, "of its own"),
        ({"image_processor_type": "os.system"}, "none of transformers"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 20}}, "size"),
        ({"image_processor_type": "ViTImageProcessor", "do_rescale": False}, "255"),
        ({"image_processor_type": "ViTImageProcessor", "resample": 17}, "not understood"),
        (None, "no preprocessor_config.json"),
    ],
)
def test_what_is_not_understood_is_not_guessed(processor: dict[str, Any] | None, said: str) -> None:
    found = processor_of(Folder("folder", {}, processor, (), "folder"))
    assert said in found.unknown
    assert found.mean is found.std is found.pipeline is None


def test_byte_values_survive() -> None:
    """255 (p / 255) is p in float32 for every byte p, so transformers' unit costs no bit."""
    p = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(check_images(p.reshape(1, -1), "x") * 255.0, p.reshape(1, -1).float())


@pytest.mark.parametrize(
    ("pipeline", "size", "expected"),
    [
        (Pipeline((256,), (224, 224)), (64, 64), Pipeline((73,), (64, 64))),
        (Pipeline((256,), (224, 224)), (224, 224), Pipeline((256,), (224, 224))),
        (Pipeline((248, 248), (224, 224)), (112, 56), Pipeline((124, 62), (112, 56))),
        (Pipeline((32, 32)), (64, 48), Pipeline((64, 48))),
        (Pipeline((32,)), (64, 48), Pipeline((32,))),
    ],
)
def test_another_size(pipeline: Pipeline, size: tuple[int, int], expected: Pipeline) -> None:
    assert pipeline.at(size) == expected
