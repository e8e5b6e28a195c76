"""Small networks of timm, transformers and torchvision with random weights, saved in the form of each library.

Importing this imports neither timm nor transformers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robcert.vision import mend

SIDE, CLASSES = 32, 4
NAMES = ("red fox", "teapot", "kite", "harbour seal")


@dataclass(frozen=True, eq=False)
class Small:
    """A network of a library, small enough for tests.

    Attributes:
        library: timm, transformers or torchvision.
        name: of the architecture; of the model class without ForImageClassification.
        options: that make it small.
        processor: of transformers, and its settings.
        side: of an input.
    """

    library: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    processor: tuple[str, Mapping[str, Any]] = ("ViTImageProcessor", {})
    side: int = SIDE

    def __str__(self) -> str:
        return f"{self.library}-{self.name}"


_SHORTEST = {"size": {"shortest_edge": 40}, "crop_size": {"height": SIDE, "width": SIDE}, "do_center_crop": True}
_WHOLE = {"size": {"height": SIDE, "width": SIDE}}

MODELS = (
    Small("timm", "resnet10t"),
    Small("timm", "mobilenetv3_small_050"),
    Small("timm", "convnext_atto", {"depths": [1, 1, 1, 1]}),
    Small("timm", "regnetx_002"),
    Small("timm", "test_efficientnet"),
    Small("timm", "vit_tiny_patch16_224", {"img_size": SIDE, "patch_size": 8, "depth": 2}),
    Small("timm", "deit_tiny_patch16_224", {"img_size": SIDE, "patch_size": 8, "depth": 2}),
    Small("timm", "ghostnet_050"),
    Small("timm", "swin_tiny_patch4_window7_224", {
        "img_size": SIDE, "window_size": 4, "embed_dim": 24, "depths": [1, 1], "num_heads": [2, 2],
    }),
    Small("timm", "pvt_v2_b0", {"depths": [1, 1, 1, 1]}),
    Small("transformers", "ViT", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "image_size": SIDE, "patch_size": 8,
    }, ("ViTImageProcessor", _WHOLE)),
    Small("transformers", "DeiT", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "image_size": SIDE, "patch_size": 8,
    }, ("DeiTImageProcessor", _SHORTEST)),
    Small("transformers", "ConvNext", {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]},
          ("ConvNextImageProcessor", {"size": {"shortest_edge": SIDE}})),
    Small("transformers", "ResNet", {"embedding_size": 16, "hidden_sizes": [16, 24], "depths": [1, 1]},
          ("ConvNextImageProcessor", {"size": {"shortest_edge": SIDE}})),
    Small("transformers", "MobileNetV2", {"depth_multiplier": 0.35, "image_size": SIDE},
          ("MobileNetV2ImageProcessor", _SHORTEST)),
    Small("torchvision", "resnet18"),
    Small("torchvision", "mobilenet_v2"),
    Small("torchvision", "squeezenet1_1"),
    Small("torchvision", "shufflenet_v2_x0_5"),
    Small("torchvision", "regnet_y_400mf"),
)  # fmt: skip


def made(small: Small) -> nn.Module:
    """Return the network with random weights that no batch norm or layer scale silences."""
    mend()
    torch.manual_seed(1)
    module = _MADE[small.library](small).eval()
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    return module


def saved(small: Small, folder: Path, module: nn.Module | None = None) -> tuple[nn.Module, list[str]]:
    """Save it as its library does; return it, and the arguments of a command that name it."""
    module = made(small) if module is None else module
    folder.mkdir(parents=True, exist_ok=True)
    if small.library == "timm":
        from timm.models import save_for_hf

        names = {"label_names": list(NAMES)}
        config = {"input_size": (3, small.side, small.side)}
        save_for_hf(module, str(folder), names, dict(small.options), safe_serialization=True, data_config=config)
        return module, [str(folder)]
    if small.library == "transformers":
        module.save_pretrained(folder)  # type: ignore[operator]
        processor(small).save_pretrained(folder)
        return module, [str(folder)]
    torch.save(module.state_dict(), folder / "model.pth")
    weights = torchvision_weights(small.name)
    return module, [
        str(folder / "model.pth"), "--arch", f"torchvision:{small.name}@{weights}", "--input-shape", f"3,{SIDE},{SIDE}",
    ]  # fmt: skip


def torchvision_weights(name: str) -> str:
    """Return the first weights of a classifier of torchvision."""
    mend()
    return next(iter(importlib.import_module("torchvision.models").get_model_weights(name).__members__))


def processor(small: Small) -> Any:
    """Return its image processor of transformers."""
    kind, settings = small.processor
    return getattr(importlib.import_module("transformers"), kind)(**settings)


def _timm(small: Small) -> nn.Module:
    return importlib.import_module("timm").create_model(small.name, num_classes=CLASSES, **small.options)


def _transformers(small: Small) -> nn.Module:
    transformers = importlib.import_module("transformers")
    config = getattr(transformers, f"{small.name}Config")(id2label=dict(enumerate(NAMES)), **small.options)
    return getattr(transformers, f"{small.name}ForImageClassification")(config)


def _torchvision(small: Small) -> nn.Module:
    return importlib.import_module("torchvision.models").get_model(small.name, weights=None, num_classes=CLASSES)


_MADE: dict[str, Callable[[Small], nn.Module]] = {
    "timm": _timm,
    "transformers": _transformers,
    "torchvision": _torchvision,
}
