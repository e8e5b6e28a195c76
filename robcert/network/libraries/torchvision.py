"""torchvision: ``torchvision:resnet50@IMAGENET1K_V2``."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robcert.errors import EvaluationError, UsageError, did_you_mean, first_line
from robcert.network.card import Card
from robcert.network.libraries import Named, library, nearest
from robcert.network.libraries._packages import Access
from robcert.network.match import tensors_of
from robcert.network.request import Request
from robcert.network.weights import read_pickle
from robcert.preparation import Labels, Pipeline

_SIDES = {"inception_v3": 299}
_EXAMPLES = "Examples: resnet18, resnet50, vgg11_bn, mobilenet_v3_small."


@library("torchvision")
class Torchvision:
    """Classifiers of torchvision: their files are those that torch.hub keeps."""

    title = "a classifier of torchvision, with the weights of that name"
    example = "torchvision:resnet50@IMAGENET1K_V2"

    def named(self, name: str, access: Access) -> Named:
        """Return a classifier with weights: "resnet50@IMAGENET1K_V2"; or with random ones."""
        arch, tag = _parted(name)
        card = self.described(name)
        if access.random:
            return Named(card, "torchvision", lambda card: self._random(arch, card))
        if tag is None:
            known = [f"torchvision:{arch}@{member}" for member in _weights(arch).__members__]
            raise UsageError(
                f"torchvision:{name} names an architecture without weights",
                f"With weights: {', '.join(known)}. For random ones add --random-weights.",
            )
        path = _file(arch, tag, access)
        return Named(card, "torchvision", weights=lambda: tensors_of(read_pickle(path), str(path)), files=(path,))

    def build(self, request: Any) -> nn.Module:
        """Return a classifier with fresh weights."""
        name, _ = _parted(request.name.partition(":")[2])
        models = _models()
        options = dict(request.options)
        accepted = inspect.signature(models.get_model_builder(name)).parameters
        if "init_weights" in accepted or name in ("googlenet", "inception_v3"):
            options.setdefault("init_weights", False)  # scipy's truncated normal takes a minute, for nothing
        if name in ("googlenet", "inception_v3"):
            # In eval mode they are never computed; a file that has them wants them.
            options.setdefault("aux_logits", any("aux" in held.lower() for held in request.held))
        return models.get_model(name, weights=None, num_classes=request.num_classes or request.guess or 1000, **options)

    def described(self, name: str) -> Card:
        """Return the shape of an input; with weights also their normalisation, pipeline and classes."""
        arch, tag = _parted(name)
        side = _SIDES.get(arch, 224)
        if tag is None:
            return Card(architecture=f"torchvision:{arch}", name=arch, input_shape=(3, side, side))
        weights = _weights(arch)[tag]
        found, size = weights.transforms(), int(weights.transforms().crop_size[0])
        return Card(
            architecture=f"torchvision:{arch}",
            name=f"{arch}@{tag}",
            input_shape=(3, size, size),
            mean=tuple(found.mean),
            std=tuple(found.std),
            pipeline=Pipeline(
                tuple(found.resize_size), (size, size), found.interpolation.value, bool(found.antialias), "torchvision"
            ),
            labels=Labels(tuple(weights.meta["categories"])),
        )

    def _random(self, arch: str, card: Card) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            options = {"init_weights": True} if arch in ("googlenet", "inception_v3") else {}
            return self.build(Request(f"torchvision:{arch}", num_classes=card.num_classes, options=options))


def _models() -> Any:
    from robcert.vision import torchvision

    return importlib.import_module(f"{torchvision().__name__}.models")


def _parted(name: str) -> tuple[str, str | None]:
    """Return the architecture and the weights of "resnet50@IMAGENET1K_V2".

    Raises:
        UsageError: there is no such classifier, or it has no such weights.
    """
    arch, at, tag = name.partition("@")
    models = _models()
    known: list[str] = models.list_models(module=models)
    if arch not in known:
        raise UsageError(f"torchvision has no classifier called {arch!r}", nearest(arch, known, _EXAMPLES))
    members = list(_weights(arch).__members__)
    if at and tag not in members:
        raise UsageError(f"torchvision has no weights {tag!r} of {arch}", did_you_mean(tag, members))
    return arch, tag if at else None


def _weights(arch: str) -> Any:
    return _models().get_model_weights(arch)


def _file(arch: str, tag: str, access: Access) -> Path:
    """Return the file of weights, downloaded where that is allowed and needed.

    Raises:
        EvaluationError: it is not there and may not or cannot be downloaded.
    """
    url: str = _weights(arch)[tag].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    if not access.download:
        raise EvaluationError(
            f"the weights {tag} of {arch} are not on this machine (there is no {path}), and nothing is downloaded "
            "unasked",
            "Add --download, or --random-weights for a network without training.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2], progress=False)
    except Exception as error:  # the network may fail in many ways; a wrong digest is one of them
        raise EvaluationError(
            f"{url} could not be downloaded: {first_line(error)}", f"Download it elsewhere and put it at {path}."
        ) from error
    return path
