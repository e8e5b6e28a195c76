"""timm: ``timm:resnet50.a1_in1k``, and folders written by its ``save_for_hf``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from robcert.errors import EvaluationError, UsageError, did_you_mean
from robcert.network.card import Card, option_fault
from robcert.network.libraries import Named, library, nearest
from robcert.network.libraries._packages import Access, package
from robcert.network.match import tensors_of
from robcert.preparation import Interpolation, Labels, Pipeline

if TYPE_CHECKING:
    from robcert.network.libraries._hub import Folder
    from robcert.network.request import Request

_SOURCES = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source")
"""Where the weights of a configuration are: robcert reads them itself."""
_GUESSED = ("num_classes", "in_chans")
_EXAMPLES = "Examples: resnet18, resnet50.a1_in1k, convnext_tiny, vit_tiny_patch16_224."


@library("timm")
class Timm:
    """Classifiers of timm: their weights are repositories of the hub."""

    title = "a classifier of timm (robcert[timm])"
    example = "timm:resnet50.a1_in1k"

    def named(self, name: str, access: Access) -> Named:
        """Return a classifier with its weights, or with random ones."""
        config = _config(name)
        if access.random:
            card = _card(config, config["architecture"], f"timm:{name}")
            return Named(card, "timm", lambda card: _made(card, config))
        repo = config["hf_hub_id"]
        if not repo:
            raise EvaluationError(
                f"timm has no weights of {name!r} on the Hugging Face hub",
                f"Add --random-weights, or name a file: robcert attack FILE --arch timm:{name} ...",
            )
        from robcert.network.libraries._hub import repository

        return replace_name(self.stored(repository(repo, access)), name)

    def owns(self, config: Mapping[str, Any]) -> bool:
        """A config.json of timm has an architecture; transformers' wrapper of timm has its name beside."""
        return isinstance(config.get("architecture"), str)

    def stored(self, folder: Folder) -> Named:
        """Return the network in a folder that timm wrote, or that transformers wrote around a network of timm."""
        config = _of_folder(folder)
        card = _card(config, folder.name, folder.where)

        return Named(card, "timm", weights=lambda: tensors_of(folder.tensors(), folder.place), files=folder.files)

    def build(self, request: Request) -> nn.Module:
        """Return a classifier with fresh weights; its tag changes nothing."""
        config = _config(request.name.partition(":")[2])
        classes = request.num_classes or request.guess
        return _created(config, request.options, classes, request.input_shape)

    def described(self, name: str) -> Card:
        """Return the normalisation and the pipeline that timm has for a name."""
        config = _config(name)
        return _card(config, config["architecture"], f"timm:{name}")


def replace_name(named: Named, name: str) -> Named:
    """Return a network under another name."""
    return replace(named, card=named.card.model_copy(update={"name": name}))


def _timm(reference: str) -> Any:
    return package("timm", reference)


def _config(name: str) -> dict[str, Any]:
    """Return the configuration of "resnet50" or "resnet50.a1_in1k".

    Raises:
        UsageError: there is none.
    """
    timm = _timm(f"timm:{name}")
    arch, dot, tag = name.partition(".")
    if not timm.is_model(arch):
        raise UsageError(f"timm has no classifier called {arch!r}", nearest(name, timm.list_models(), _EXAMPLES))
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{arch}.*")]
    if dot and tag not in tags:
        known = did_you_mean(tag, tags) if tags else "It has none."
        raise UsageError(f"timm has no weights {tag!r} of {arch}", known)
    found: Any = timm.get_pretrained_cfg(name)
    return {**(found.to_dict() if found else {}), "architecture": arch}


def _of_folder(folder: Folder) -> dict[str, Any]:
    """Return the configuration in a folder, in the form of timm's own, its options under "model_args".

    Raises:
        EvaluationError: timm has no such architecture; an option that a file may not set.
    """
    given = folder.config
    timm = _timm(folder.where)
    arch = str(given["architecture"]).partition(".")[0]
    if not arch.isidentifier() or not timm.is_model(arch):
        raise EvaluationError(
            f"{folder.where}: timm {timm.__version__} has no classifier called {arch!r}",
            nearest(arch, timm.list_models(), "A newer timm may have it: pip install --upgrade timm"),
        )
    nested: Any = given.get("pretrained_cfg", given)
    options: Any = given.get("model_args") or {}
    if not isinstance(nested, dict) or not isinstance(options, dict):
        raise EvaluationError(f"{folder.where}: pretrained_cfg and model_args of config.json are tables")
    for name, value in options.items():
        if fault := option_fault(str(name), value):
            raise EvaluationError(f"{folder.where}, model_args of config.json: {fault}")
    if nested.get("label_offset"):
        raise EvaluationError(f"{folder.where}: weights with a label_offset are not read", "Save them again with timm.")
    names = given.get("label_names") or nested.get("label_names") or given.get("labels")
    texts = given.get("label_descriptions") or nested.get("label_descriptions")
    classes = given.get("num_classes", options.get("num_classes", nested.get("num_classes")))
    if isinstance(given.get("id2label"), dict) and not names:  # transformers' wrapper
        names, classes = given["id2label"], len(given["id2label"])
    return {
        **nested,
        "architecture": arch,
        "num_classes": classes,
        "label_names": names,
        "label_descriptions": texts,
        "model_args": {key: value for key, value in options.items() if key != "num_classes"},
    }


def _card(config: Mapping[str, Any], name: str, where: str) -> Card:
    """Return the card of a configuration.

    Raises:
        EvaluationError: it holds values of another form.
    """
    from timm.data.config import resolve_data_config

    try:
        found = resolve_data_config(pretrained_cfg=dict(config))
        channels, height, width = found["input_size"]
        shape = (int(config.get("model_args", {}).get("in_chans") or channels), int(height), int(width))
        card = Card(
            name=name,
            architecture=f"timm:{config['architecture']}",
            options=dict(config.get("model_args", {})),
            input_shape=shape,
            num_classes=int(config["num_classes"]) if config.get("num_classes") else None,
            mean=tuple(found["mean"]) if len(found["mean"]) == shape[0] else tuple(found["mean"])[:1],
            std=tuple(found["std"]) if len(found["std"]) == shape[0] else tuple(found["std"])[:1],
            pipeline=_pipeline(found),
            labels=_labels(config),
        )
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise EvaluationError(f"{where}: the configuration of timm is not understood: {error}") from None
    return card


def _pipeline(found: Mapping[str, Any]) -> Pipeline | None:
    """Return timm's evaluation transform; None for those that are not this one: borders, sides of two lengths."""
    _, height, width = found["input_size"]
    mode = found.get("crop_mode") or "center"
    scaled = [int(side / found["crop_pct"]) for side in (height, width)]
    if mode not in ("center", "squash") or (mode == "center" and scaled[0] != scaled[1]):
        return None
    resize = (scaled[0],) if mode == "center" else (scaled[0], scaled[1])
    interpolation = cast(Interpolation, found["interpolation"])
    return Pipeline(resize, (int(height), int(width)), interpolation, True, "timm")


def _labels(config: Mapping[str, Any]) -> Labels:
    """Return the classes that a configuration names, or those of ImageNet where it is of that."""
    names, texts = config.get("label_names"), config.get("label_descriptions") or {}
    if isinstance(names, dict):
        numbered = {int(key): str(value) for key, value in names.items()}
        names = [numbered.get(number, str(number)) for number in range(max(numbered) + 1)]
    if names:
        ids = tuple(map(str, names))
        told = tuple(str(texts.get(one, one)) for one in ids) if isinstance(texts, dict) else ids
        return Labels(told, ids if told != ids else ())
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    tag = str(config.get("tag") or "")
    subset = infer_imagenet_subset({**config, "tag": tag}) if config.get("num_classes") == 1000 and tag else None
    if subset is None:
        return Labels()
    info = ImageNetInfo(subset)
    return Labels(tuple(info.label_descriptions()), tuple(info.label_names()))


def _made(card: Card, config: Mapping[str, Any]) -> nn.Module:
    """Return a network with random weights, the same ones every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _created(config, card.options, card.num_classes, card.input_shape)


def _created(
    config: Mapping[str, Any], options: Mapping[str, Any], classes: int | None, shape: tuple[int, ...] | None
) -> nn.Module:
    timm = _timm(f"timm:{config['architecture']}")
    known = {key: value for key, value in config.items() if key not in (*_SOURCES, "model_args", "label_names")}
    given: dict[str, Any] = {"pretrained": False, **options, **({"num_classes": classes} if classes else {})}
    given["pretrained_cfg"] = {key: value for key, value in known.items() if key in _fields()}
    if shape is not None and len(shape) == 3:
        given.setdefault("in_chans", shape[0])
        if config.get("fixed_input_size") and tuple(shape[1:]) != tuple(config.get("input_size", (0, 0, 0))[1:]):
            given.setdefault("img_size", tuple(shape[1:]))
    return timm.create_model(config["architecture"], **given)


def _fields() -> set[str]:
    import dataclasses

    from timm.models import PretrainedCfg

    return {one.name for one in dataclasses.fields(PretrainedCfg)}
