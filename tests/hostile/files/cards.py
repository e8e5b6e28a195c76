"""Cards that name something to be called, imported, fetched or opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.hostile.files.good import card, good_pt2_with, weights
from tests.hostile.table import ATTACK, Place, hostile

SECURITY = "docs/security.md: a card may name an architecture, by module:factory"


def safetensors(place: Place, **changes: Any) -> Path:
    path = place.files / "model.safetensors"
    save_file(weights(), path, metadata={"robcert": json.dumps(card(**changes))})
    return path


@hostile("card-os-system", "card", "architecture os:system, options command", SECURITY, control="old_card", docs=True)
def _(place: Place) -> Path:
    return safetensors(place, architecture="os:system", options={"command": place.shell})


@hostile("card-subprocess", "card", "architecture subprocess:run, a list of arguments", SECURITY, control="old_card")
def _(place: Place) -> Path:
    return safetensors(place, architecture="subprocess:run", options={"args": ["touch", place.evidence]})


@hostile("card-own-module", "card", "a module of the working directory", SECURITY, control="old_card", docs=True)
def _(place: Place) -> Path:
    return safetensors(place, architecture="canary:factory", options={})


@hostile("card-run-path", "card", "runpy:run_path runs a file", "docs.python.org/3/library/runpy.html", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    script = place.files / "script.txt"
    script.write_text(place.code)
    return safetensors(place, architecture="runpy:run_path", options={"path_name": str(script)})


@hostile("card-import-module", "card", "importlib:import_module", "docs.python.org/3/library/importlib.html", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return safetensors(place, architecture="importlib:import_module", options={"name": "canary"})


@hostile("card-torch-load", "card", "torch:load opens a pickle beside it", "docs.pytorch.org torch.load: weights_only", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    from tests.hostile.files.pickles import Reduce

    torch.save(Reduce(exec, place.code), place.files / "other.bin")
    options = {"f": str(place.files / "other.bin"), "weights_only": False}
    return safetensors(place, architecture="torch:load", options=options)


@hostile("card-hub-local", "card", "torch.hub:load imports hubconf.py of a folder", "docs.pytorch.org torch.hub.load: source='local'", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    (place.files / "hubconf.py").write_text(f"{place.code}\ndef net(): ...\n")
    options = {"repo_or_dir": str(place.files), "model": "net", "source": "local"}
    return safetensors(place, architecture="torch.hub:load", options=options)


@hostile("card-hub-url", "card", "torch.hub:load_state_dict_from_url", "docs.pytorch.org torch.hub", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return safetensors(
        place, architecture="torch.hub:load_state_dict_from_url", options={"url": "http://127.0.0.1:9/weights.pth"}
    )


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


@hostile("card-timm-pretrained", "card", "timm create_model with pretrained: a download", "huggingface.co/docs/timm: create_model", control="old_card", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    options = {"model_name": "resnet10t", "pretrained": True, "pretrained_cfg": {"url": "http://127.0.0.1:9/w.pth"}}
    return safetensors(place, architecture="timm:create_model", options=options)


@hostile("card-in-checkpoint", "card", "the card beside the weights of a .pt", SECURITY, control="old_card", docs=True)
def _(place: Place) -> Path:
    path = place.files / "model.pt"
    torch.save(
        {
            "state_dict": weights(),
            "robcert_card": json.dumps(card(architecture="os:system", options={"command": place.shell})),
        },
        path,
    )
    return path


@hostile("card-in-folder", "card", "model.toml beside weights.safetensors", SECURITY, control="old_card", docs=True)
def _(place: Place) -> Path:
    folder = place.files / "model"
    folder.mkdir()
    save_file(weights(), folder / "weights.safetensors")
    (folder / "model.toml").write_text(
        'schema = "robcert.card/1"\nname = "m"\narchitecture = "os:system"\ninput_shape = [1, 8, 8]\n'
        f'num_classes = 10\nbox = [0.0, 1.0]\n[options]\ncommand = "{place.shell}"\n'
    )
    return folder


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


@hostile("card-terminal", "card", "a name and a description with terminal control sequences", "xterm ctlseqs", loads=True, docs=True, argv=ATTACK)  # fmt: skip
def _(place: Place) -> Path:
    return safetensors(place, name="m\x1b]0;owned\x07\x1b[2J", description="\x1b[31mrobust\x1b[0m")
