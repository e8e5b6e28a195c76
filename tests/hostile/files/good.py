"""Harmless files of every format: what the hostile ones are made from."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.hostile.table import Place


def network() -> nn.Module:
    """A linear classifier of 8x8 images."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


def weights() -> dict[str, torch.Tensor]:
    return network().state_dict()


def card(**changes: Any) -> dict[str, Any]:
    """The card of `network`, with changes."""
    found: dict[str, Any] = {
        "schema": "robcert.card/1",
        "name": "m",
        "architecture": "linear",
        "options": {},
        "input_shape": [1, 8, 8],
        "num_classes": 10,
        "box": [0.0, 1.0],
        "data": "digits",
    }
    return found | changes


@lru_cache
def good_pt2() -> bytes:
    """The network as torch.export.save writes it, for any number of images."""
    batch = torch.export.Dim("n", min=1)
    program = torch.export.export(network(), (torch.rand(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    out = io.BytesIO()
    torch.export.save(program, out)
    return out.getvalue()


@lru_cache
def good_script() -> bytes:
    """The network as torch.jit.save writes it."""
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(network()), out)
    return out.getvalue()


def members(archive: bytes) -> dict[str, bytes]:
    """The files of an archive of torch, without the folder that all are in."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        return {name.split("/", 1)[1]: source.read(name) for name in source.namelist()}


def archive(path: Path, files: dict[str, bytes], folder: str = "archive") -> Path:
    """An uncompressed archive as torch reads it."""
    with zipfile.ZipFile(path, "w") as out:
        for name, body in files.items():
            out.writestr(f"{folder}/{name}", body)
    return path


def good_pt2_with(place: Place, changes: dict[str, bytes | None], name: str = "model.pt2") -> Path:
    """The good .pt2 with members added, replaced or (None) left out."""
    files = {**members(good_pt2()), **changes}
    return archive(place.files / name, {key: body for key, body in files.items() if body is not None})


def changed_pt2(place: Place, change: Callable[[dict[str, Any]], None]) -> Path:
    """The good .pt2 with its program changed."""
    program = json.loads(members(good_pt2())["models/model.json"])
    change(program)
    return good_pt2_with(place, {"models/model.json": json.dumps(program).encode()})
