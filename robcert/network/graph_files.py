"""Networks that bring their own graph: torch.export archives and TorchScript, run by their interpreters."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robcert.errors import EvaluationError
from robcert.network.detect import REEXPORT, damaged, members
from robcert.network.storages import check_storages
from robcert.network.torchscript import load_checked


class ExportedNetwork(nn.Module):
    """An exported graph as a module that does not mind ``eval()``: an exported program has no mode.

    Attributes:
        input_shape: the shape of one image, where the export fixed it.
    """

    def __init__(self, graph: nn.Module, input_shape: tuple[int, ...] | None) -> None:
        super().__init__()
        self.program = graph  # not "graph": an exported GraphModule has one already
        self.input_shape = input_shape
        self.training = False

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Does nothing: what the graph computes was fixed when it was exported."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes)."""
        return self.program(x)


@contextmanager
def without_deprecations() -> Generator[None]:
    """Keep torch's notes to its callers (TorchScript is deprecated) from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def load_export(path: Path) -> ExportedNetwork:
    """Return the network in a torch.export archive.

    Raises:
        EvaluationError: the archive is damaged, holds code, or takes more than one batch of images.
    """
    # A second and a half to import, and other files need none of it.
    from torch.export.pt2_archive._package import load_pt2

    from robcert.network.pt2 import safe_copy

    with _reading(path, "a torch.export archive"):
        # Not torch.export.load, which falls back to pickles and logs a traceback over a damaged archive.
        exported = load_pt2(safe_copy(path)).exported_programs["model"]
        # The guards of an export are Python source; that the input has the right shape is checked by the probe.
        return ExportedNetwork(exported.module(check_guards=False), _input_shape(exported, path))


def _input_shape(exported: torch.export.ExportedProgram, path: Path) -> tuple[int, ...] | None:
    names = exported.graph_signature.user_inputs
    values = [n.meta.get("val") for n in exported.graph.nodes if n.op == "placeholder" and n.name in names]
    if len(values) != 1 or not isinstance(values[0], Tensor):
        raise EvaluationError(f"{path} takes {len(values)} inputs, expected one batch of images", REEXPORT)
    sizes: list[Any] = list(values[0].shape)
    if not sizes or isinstance(sizes[0], int):
        raise EvaluationError(
            f"{path} was exported for batches of exactly {sizes[0] if sizes else 1}, expected any number",
            REEXPORT,
        )
    return tuple(int(s) for s in sizes[1:]) if all(isinstance(s, int) for s in sizes[1:]) else None


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Return the network in a TorchScript archive.

    Raises:
        EvaluationError: the archive is damaged, or its code does more than compute tensors.
    """
    check_storages(path)
    with _reading(path, "a TorchScript archive"):
        return load_checked(path)


def read_extra(path: Path, name: str) -> bytes | None:
    """Return an extra file in a torch.export or TorchScript archive, or None."""
    full = members(path).get(f"extra/{name}")
    if full is None:
        return None
    with _reading(path, "a model archive"), zipfile.ZipFile(path) as archive:
        return archive.read(full)


@contextmanager
def _reading(path: Path, kind: str) -> Generator[None]:
    """Turn whatever a damaged archive ends in into one error: it fails in many ways, none of them the user's."""
    try:
        with without_deprecations():
            yield
    except EvaluationError:
        raise
    except Exception as error:
        raise damaged(path, kind, error) from None
