"""transformers: ``hf:ORG/REPO``, and folders written by ``save_pretrained``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from robcert.errors import EvaluationError, UsageError, did_you_mean, first_line
from robcert.network.card import Card
from robcert.network.libraries import Named, library, stored
from robcert.network.libraries._packages import Access, package

if TYPE_CHECKING:
    from robcert.network.libraries._hub import Folder
    from robcert.network.request import Request

_KEPT = frozenset({"id2label", "label2id", "num_labels"})
_SAID = frozenset({
    "model_type", "architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "out_features",
    "out_indices", "stage_names", "output_hidden_states", "output_attentions", "return_dict", "problem_type",
})  # fmt: skip
"""Keys of a config.json that change no logit in float32: origins, and what else than logits is answered."""


@library("hf")
class HuggingFace:
    """Image classifiers of transformers, and whatever else of these libraries is a repository of the hub."""

    title = "a repository of the Hugging Face hub, safetensors only (robcert[hf])"
    example = "hf:microsoft/resnet-50"

    def named(self, name: str, access: Access) -> Named:
        """Return the network of a repository, "ORG/REPO" or "ORG/REPO@REVISION"."""
        if access.random:
            raise UsageError(
                f"hf:{name} is a repository with weights, so --random-weights has no effect",
                "Leave it out. It is for names of architectures: torchvision:resnet18, timm:resnet18.",
            )
        from robcert.network.libraries._hub import repository

        return stored(repository(name, access))

    def owns(self, config: Mapping[str, Any]) -> bool:
        """A config.json of transformers says its type, and an architecture only where timm's is in it."""
        return isinstance(config.get("model_type"), str) and "architecture" not in config

    def stored(self, folder: Folder) -> Named:
        """Return the network in a folder that transformers wrote."""
        from robcert.network.libraries._processor import labels, prepared

        kind = _class(folder)
        config, left_out = _config(folder, kind)
        found = prepared(folder)
        size = found.pipeline.size if found.pipeline is not None else None
        size = size or _sides(getattr(config, "image_size", None))
        card = Card(
            name=folder.name,
            input_shape=(int(getattr(config, "num_channels", 3)), *size) if size else None,
            num_classes=int(config.num_labels) if config.num_labels >= 2 else None,
            mean=found.mean,
            std=found.std,
            scale=found.scale,
            pipeline=found.pipeline,
            labels=labels(folder.config.get("id2label")),
        )
        notes = () if not left_out else (
            f"{folder.where}: settings that {type(config).__name__} does not have were left out: {', '.join(left_out)}",
        )  # fmt: skip
        make = partial(_filled, folder, kind, config)
        return Named(card, "transformers", make, None, folder.files, notes, found.unknown)

    def build(self, request: Request) -> nn.Module:
        """Refuse: a network of transformers is its config.json."""
        raise _no_architecture(request.name)

    def described(self, name: str) -> Card:
        """Refuse, as `build`."""
        raise _no_architecture(f"hf:{name}")


def _no_architecture(name: str) -> UsageError:
    return UsageError(
        f"--arch {name}: a network of transformers is described by its config.json, not by a name",
        "Name the folder that holds config.json and model.safetensors, as save_pretrained writes it.",
    )


def _class(folder: Folder) -> Any:
    """Return the class of an image classifier.

    Raises:
        EvaluationError: transformers has none of this type, or the weights are those of another kind of network.
    """
    transformers = package("transformers", folder.where)
    known: dict[str, Any] = package(
        "transformers.models.auto.modeling_auto", folder.where
    ).MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    kind = folder.config["model_type"]
    if kind not in known:
        raise EvaluationError(
            f"{folder.where} is of type {kind!r}, of which transformers {transformers.__version__} has no image "
            "classifier",
            did_you_mean(kind, known),
        )
    names = [known[kind]] if isinstance(known[kind], str) else list(known[kind])
    said: Any = folder.config.get("architectures") or names[:1]
    if said[0] not in names:
        raise EvaluationError(
            f"{folder.where} holds a {said[0]}, which is no image classifier", f"Expected: {' or '.join(names)}."
        )
    return getattr(transformers, said[0])


def _config(folder: Folder, kind: Any) -> tuple[Any, list[str]]:
    """Return the settings of the class, and those of the file that it does not have.

    Only its own fields are taken: others could choose kernels, quantisation or files.

    Raises:
        EvaluationError: settings in settings, or of another form.
    """
    made = kind.config_class
    fields = {field.name for field in dataclasses.fields(made)} | set(made.attribute_map)
    taken = {key: value for key, value in folder.config.items() if key in fields | _KEPT and key not in _SAID}
    nested = [key for key, value in taken.items() if isinstance(value, dict) and key not in _KEPT]
    if nested:
        raise EvaluationError(
            f"{folder.where}: {nested[0]} in config.json holds settings of another network, which robcert does not "
            "read",
            "Export it where you trust it, to ONNX or .pt2.",
        )
    if isinstance(taken.get("id2label"), dict):
        taken["id2label"] = {int(key): str(value) for key, value in taken["id2label"].items()}
    left_out = [key for key, value in folder.config.items() if key not in fields | _KEPT | _SAID and value]
    try:
        return made(**taken), left_out
    except Exception as error:  # whatever a class says of values that it does not take
        raise EvaluationError(f"{folder.where}: config.json is not understood: {first_line(error)}") from error


def _filled(folder: Folder, kind: Any, config: Any, card: Card) -> nn.Module:
    """Return the network with its weights, every one of them from the file.

    Raises:
        EvaluationError: weights are missing, of another shape, or left over.
    """
    from robcert.network.weights import check_finite

    del card  # its config.json says all
    tensors = folder.tensors()
    check_finite(tensors, folder.where)
    logging = package("transformers", folder.where).logging
    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        module, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise EvaluationError(
            f"{folder.where}: transformers cannot build {kind.__name__}: {first_line(error)}"
        ) from error
    finally:
        logging.set_verbosity(shown)
        logging.enable_progress_bar()
    for key, what in (
        ("missing_keys", "missing"),
        ("mismatched_keys", "of another shape"),
        ("unexpected_keys", "more"),
    ):
        if info[key]:
            listed = ", ".join(sorted(map(str, info[key]))[:3])
            raise EvaluationError(
                f"the weights of {folder.where} do not fit {kind.__name__}: {len(info[key])} {what} ({listed})",
                "Another version of transformers may read them.",
            )
    return module


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return (size, size)
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None
