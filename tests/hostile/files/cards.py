"""Cards that name something to be called, imported, fetched or opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tests.hostile.files.good import card, good_pt2_with, weights
from tests.hostile.table import Place, hostile

SECURITY = "docs/security.md: a card may name an architecture, by module:factory"


def safetensors(place: Place, **changes: Any) -> Path:
    path = place.files / "model.safetensors"
    save_file(weights(), path, metadata={"robcert": json.dumps(card(**changes))})
    return path


@hostile("card-torchvision-weights", "card", "torchvision:resnet18 with weights: a download", "docs.pytorch.org/vision models: weights='DEFAULT'", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return safetensors(place, architecture="torchvision:resnet18", options={"weights": "DEFAULT"})


@hostile("card-torchvision-pretrained", "card", "torchvision:resnet18, pretrained=True", "docs.pytorch.org/vision models: pretrained", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return safetensors(place, architecture="torchvision:resnet18", options={"pretrained": True})


@hostile("card-torchvision-get-model", "card", "torchvision:get_model, a builder of builders", "docs.pytorch.org/vision: get_model", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    options = {"name": "resnet18", "weights": "IMAGENET1K_V1"}
    return safetensors(place, architecture="torchvision:get_model", options=options)


@hostile("card-torchvision-dotted", "card", "torchvision: a dotted name that leaves torchvision", "none: attributes of a module", control="old_card")  # fmt: skip
def _(place: Place) -> Path:
    return safetensors(place, architecture="torchvision:_api.importlib.import_module", options={"name": "canary"})


@hostile("card-in-pt2", "card", "an architecture in the card of a .pt2, which needs none", SECURITY, control="old_card", loads=True)  # fmt: skip
def _(place: Place) -> Path:
    found = card(architecture="canary:factory", options={})
    return good_pt2_with(place, {"extra/robcert.json": json.dumps(found).encode()})


@hostile("card-data-factory", "card", "data names a file with pickles", "numpy.org numpy.load: allow_pickle", control="old_card_data", docs=True, argv=("attack", "{file}", "--eps", "0.5", "--n", "5", "--plan", "pgd:2"))  # fmt: skip
def _(place: Place) -> Path:
    from tests.hostile.files.data import pickled_npz

    return safetensors(place, data=f"npz:{pickled_npz(place)}")


@hostile("card-path-as-name", "card", "an architecture that is a path to Python", "none")
def _(place: Place) -> Path:
    return safetensors(place, architecture=f"{place.work}/canary.py:factory", options={})


@hostile("card-no-colon", "card", "an architecture that is the bare name of a module", "none")
def _(place: Place) -> Path:
    return safetensors(place, architecture="canary", options={})


@hostile("card-types", "card", "an architecture that is a table, options that are a list", "none")
def _(place: Place) -> Path:
    return safetensors(place, architecture={"__reduce__": ["os", "system"]}, options=[["command", place.shell]])


@hostile(
    "card-nested-options", "card", "options with a table that looks like an object", "hydra.cc: _target_", docs=True
)
def _(place: Place) -> Path:
    return safetensors(place, options={"hidden": {"_target_": "canary.factory", "command": place.shell}})


@hostile("card-deep", "card", "JSON nested 100,000 deep", "none", cost=True)
def _(place: Place) -> Path:
    path = place.files / "model.safetensors"
    save_file(weights(), path, metadata={"robcert": "[" * 100_000 + "]" * 100_000})
    return path
