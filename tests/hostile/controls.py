"""Loaders without robcert's check: they show that a file does what it says, and that the harness sees it."""

from __future__ import annotations

import importlib
import json
import pickle
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


def old_card(path: Path) -> None:
    """Import the module that the card names and call the factory with its options, as robcert's first loader did."""
    found = _card(path)
    module, _, name = found["architecture"].partition(":")
    if module == "torchvision":
        from robcert.vision import torchvision

        target: Any = torchvision().models
    elif module == "timm":
        from robcert.vision import torchvision

        torchvision()
        target = importlib.import_module("timm")
    else:
        target = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    target(**found["options"])


def old_card_data(path: Path) -> None:
    """Read the arrays that a card names, with pickles."""
    numpy_load(Path(_card(path)["data"].partition(":")[2]))


def _card(path: Path) -> dict[str, Any]:
    if path.is_dir():
        try:
            import tomllib
        except ImportError:
            import tomli as tomllib
        return tomllib.loads((path / "model.toml").read_text())
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        return json.loads(header["__metadata__"]["robcert"])
    if path.suffix == ".onnx":
        import onnx

        return json.loads(next(one.value for one in onnx.load(path).metadata_props if one.key == "robcert"))
    with zipfile.ZipFile(path) as source:
        for name in source.namelist():
            if name.endswith("extra/robcert.json"):
                return json.loads(source.read(name))
    return json.loads(torch.load(path, weights_only=True)["robcert_card"])


def torch_load(path: Path) -> None:
    """Unpickle whatever it is; run it where it is a module."""
    found = torch.load(path, weights_only=False)
    if isinstance(found, torch.nn.Module):
        found(torch.rand(2, 1, 8, 8))


def torch_load_tar(path: Path) -> None:
    """What torch.load does with the tar of torch 0.1: members are unpickled in order."""
    with tarfile.open(path) as source:
        for member in source.getmembers():
            pickle.load(source.extractfile(member))  # type: ignore[arg-type]


def jit(path: Path) -> None:
    """Load TorchScript and run it on 2 and on 7 images."""
    net = torch.jit.load(str(path)).eval()
    for n in (2, 7):
        net(torch.rand(n, 1, 8, 8))


def jit_training(path: Path) -> None:
    """Load TorchScript and run it in training mode."""
    torch.jit.load(str(path)).train()(torch.rand(2, 1, 8, 8))


def pt2(path: Path) -> None:
    """Load a torch.export archive and run it."""
    torch.export.load(path).module()(torch.rand(2, 1, 8, 8))


def pt2_of_run(path: Path) -> None:
    """Load the network that a run directory stores."""
    for file in sorted(path.glob("network-*.pt2")):
        pt2(file)


def data_of_run(path: Path) -> None:
    """Read the data that a specification names, with pickles."""
    numpy_load(Path(json.loads((path / "run.json").read_text())["data"]["name"].partition(":")[2]))


def numpy_load(path: Path) -> None:
    """Read every array, pickles too."""
    found = np.load(path, allow_pickle=True)
    for name in getattr(found, "files", ()):
        found[name]


def unpickle(path: Path) -> None:
    """Unpickle every file of the folder, as torchvision's CIFAR10 does."""
    for file in sorted(path.rglob("*_batch*")):
        pickle.loads(file.read_bytes(), encoding="latin1")


def pillow(path: Path) -> None:
    """Let Pillow tell the formats of all files of a folder from their content."""
    from PIL import Image

    for file in sorted(path.rglob("*.png")):
        try:
            Image.open(file).load()
        except OSError as error:
            warnings.warn(str(error), stacklevel=1)


def extract(path: Path) -> None:
    """Unpack as a naive extractor does: join the folder and the name of the member."""
    with zipfile.ZipFile(path) as source:
        for info in source.infolist():
            target = Path.cwd() / info.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISLNK(info.external_attr >> 16):
                target.symlink_to(source.read(info).decode())
                continue
            target.write_bytes(source.read(info))


def runtime(path: Path) -> None:
    """A session of onnxruntime, run once."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    session.run(None, {session.get_inputs()[0].name: np.zeros((1, 1, 8, 8), np.float32)})
    session.end_profiling()


def old_run(path: Path) -> None:
    """Build the networks of a run directory again with the factory that its specification names."""
    for model in json.loads((path / "run.json").read_text())["models"]:
        module, _, name = str(model["arch"]).partition(":")
        getattr(importlib.import_module(module), name)()


CONTROLS: dict[str, Callable[[Path], None]] = {
    one.__name__: one
    for one in (
        old_card, old_card_data, torch_load, torch_load_tar, jit, jit_training, pt2, numpy_load, unpickle, pillow,
        extract, runtime, old_run, pt2_of_run, data_of_run,
    )
}  # fmt: skip
