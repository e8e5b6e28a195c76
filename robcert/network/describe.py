"""What a reference stands for, and what is known of it before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robcert.errors import UsageError
from robcert.network import card as cards
from robcert.network import graph_files, libraries, weights
from robcert.network.card import Card
from robcert.network.detect import Format, detect
from robcert.network.libraries import Named
from robcert.network.libraries._packages import Access
from robcert.network.zoo import resolve
from robcert.preparation import Labels, Preparation

WEIGHTS = ("safetensors", "state_dict")
"""Formats that hold weights without a network."""


@dataclass(frozen=True)
class File:
    """A file of a model.

    Attributes:
        path: of it.
        beside: the ``model.toml`` beside it; None where there is none.
        format: told by its content.
    """

    path: Path
    beside: Path | None
    format: Format


def find(reference: str | Path, access: Access = Access()) -> File | Named:
    """Return the file or the network of a library that a reference stands for.

    Raises:
        UsageError: no such file or name.
        EvaluationError: the file is no model; a library's files are missing or hold what is not read.
    """
    named = libraries.find(reference, access)
    if named is not None:
        return named
    path, beside = resolve(reference)
    return File(path, beside, detect(path))


def peek_card(
    reference: str | Path,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    random_weights: bool = False,
    download: bool = False,
) -> Card | None:
    """Return the card of a model, read without reading its weights; None where nothing is said of it.

    Args:
        reference: as `robcert.load_model` takes it, like the others.
        arch: of a file of weights.
        input_shape: of one image.
        random_weights: whether a name of a library stands for its architecture alone.
        download: whether the files of a name may be downloaded.

    Raises:
        UsageError: no such file or name.
        EvaluationError: the file is no model, or its card is damaged.
    """
    found = find(reference, Access(random_weights, download))
    if isinstance(found, File) and arch is None:
        card = read_card(found)
        return card if card is None or input_shape is None else with_shape(card, input_shape)
    return described(found, stated(input_shape=input_shape, architecture=arch))


def described(found: File | Named, given: dict[str, Any]) -> Card:
    """Return what is known of a model, with what a user gave in place of what its file or its library says.

    Raises:
        UsageError: the card names code; an architecture for what has one.
        EvaluationError: a value that does not fit.
    """
    arch: str | None = given.get("architecture")
    if isinstance(found, Named):
        if arch is not None:
            raise UsageError(f"{found.card.name} has its architecture, so --arch has no effect", "Leave it out.")
        where, card = found.card.name, found.card
    else:
        where, card = str(found.path), read_card(found) or Card()
        if arch is None and found.format in WEIGHTS and cards.names_code(card.architecture):
            raise UsageError(
                f"the card in {where} names {card.architecture!r}, a Python function, as its architecture; a file does "
                "not choose code",
                f"If that function is yours, say so: --arch {card.architecture}",
            )
        if arch is not None and arch != card.architecture:
            card = card.model_copy(update={"options": {}})
            if found.format in WEIGHTS:
                card = _with_library(card, arch)
                given = {**given, "architecture": card.architecture}
    if "mean" in given or "std" in given:
        card = card.model_copy(update={"scale": None})
    card = cards.parse(card.dump() | given, where)
    if card.pipeline is not None and "input_shape" in given and len(given["input_shape"]) == 3:
        card = card.model_copy(update={"pipeline": card.pipeline.at(tuple(given["input_shape"][1:]))})
    if isinstance(found, Named) and found.unprepared and card.mean is None and card.std is None:
        raise UsageError(
            f"it is not known how {where} normalises images: {found.unprepared}",
            "Give --mean and --std (--mean 0 --std 1 for none); transformers writes the file with "
            "AutoImageProcessor.from_pretrained(...).save_pretrained(FOLDER).",
        )
    return card


def preparation_of(card: Card | None, name: str) -> Preparation | None:
    """Return what a network's card says of pictures and classes; None where it says nothing."""
    if card is None or (card.pipeline is None and card.labels is None):
        return None
    return Preparation(name, card.pipeline, card.labels or Labels())


def read_card(file: File) -> Card | None:
    """Return the card in a file or beside it; None where there is none.

    Raises:
        EvaluationError: it is damaged.
    """
    text: str | bytes | None = None
    if file.format == "safetensors":
        text = weights.read_safetensors_metadata(file.path).get(cards.SAFETENSORS_KEY)
    elif file.format == "state_dict":
        found = weights.read_pickle(file.path, data=False)
        text = dict.get(found, cards.PT_KEY) if isinstance(found, dict) else None
    elif file.format == "onnx":
        from robcert.network.onnx_import.read import read_metadata

        text = read_metadata(file.path).get(cards.SAFETENSORS_KEY)
    else:
        text = graph_files.read_extra(file.path, cards.EXTRA_FILE)
    if text is not None:
        return cards.parse_json(text, str(file.path))
    # A model.toml belongs to the safetensors beside it, not to whatever else lies in the folder.
    return cards.read_toml(file.beside) if file.beside is not None and file.format == "safetensors" else None


def stated(**fields: Any) -> dict[str, Any]:
    """Return the fields that were given."""
    return {key: value for key, value in fields.items() if value is not None}


def _with_library(card: Card, arch: str) -> Card:
    """Return the card with the architecture of ``--arch``, and with what its library says of the inputs.

    Of the shape of an input it says nothing here: the network may run on that of the data.
    """
    named = libraries.split(arch)
    if named is None:
        return card.model_copy(update={"architecture": arch})
    prefix, name = named
    known = libraries.libraries.get(prefix).described(name)
    update: dict[str, Any] = {"architecture": f"{prefix}:{name.partition('@')[0]}"}
    if card.mean is None and card.std is None:
        update |= {key: getattr(known, key) for key in ("mean", "std", "scale")}
    return card.model_copy(update={**update, "pipeline": known.pipeline, "labels": known.labels})


def classes_of(card: Card, num_classes: int) -> Card:
    """Return the card of a network with so many classes: names of another number of them are not its own."""
    if card.labels is None or len(card.labels.names) == num_classes:
        return card
    return card.model_copy(update={"labels": None})


def with_shape(card: Card, shape: tuple[int, ...]) -> Card:
    """Return the card with the shape of an input."""
    pipeline = card.pipeline
    if pipeline is not None and len(shape) == 3 and pipeline.size not in (None, shape[1:]):
        pipeline = pipeline.at((shape[1], shape[2]))
    return card.model_copy(update={"input_shape": shape, "pipeline": pipeline})
