"""Weights as data: read without running anything, and checked."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from robcert.errors import EvaluationError
from robcert.network.detect import REEXPORT, UNPACKED, damaged
from robcert.network.storages import Inert, check_storages

_BESIDE = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "builtins.list",
    "builtins.dict",
    "builtins.frozenset",
    "builtins.slice",
    "datetime.datetime",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)
"""What training scripts keep beside the weights: settings, dates, accuracies. None is made: `Inert` stands there."""


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """Open a safetensors file; whatever is wrong with it is one error."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise damaged(path, "safetensors", error) from None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        EvaluationError: the header is damaged or the data are truncated.
    """
    with _opened(path) as file:
        # safetensors maps the file: a copy survives the file being rewritten while the model is in use.
        return {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the free text in the header of a safetensors file; the tensors are not read.

    Raises:
        EvaluationError: the header is damaged or the data are truncated.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def read_pickle(path: Path, *, data: bool = True) -> dict[Any, Any] | list[Any] | tuple[Any, ...]:
    """Return the dictionary or list in a ``torch.save`` file, read with ``weights_only=True``: nothing in it is
    executed.

    Settings, dates and numbers of NumPy beside the weights are left out.

    Args:
        path: the file.
        data: False leaves the tensors in the file where its form allows that.

    Raises:
        EvaluationError: the file holds Python objects, is damaged, or holds neither a dictionary nor a list.
    """
    if zipfile.is_zipfile(path):
        check_storages(path)  # refuses also what unpacks to far more than it is
    try:
        lazy = not data and zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with a file is said once, below
            instead: list[Any] = [(Inert, name) for name in _BESIDE]
            with torch.serialization.safe_globals([*instead, (_mapping, "collections.defaultdict")]):
                found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=lazy)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from None
    except Exception as error:  # a damaged archive fails in many ways, none of them the user's
        raise damaged(path, "a torch checkpoint", error) from None
    if isinstance(found, (list, tuple)):
        return found
    if not isinstance(found, Mapping):
        raise EvaluationError(f"{path} holds a {type(found).__name__}, expected a state_dict", REEXPORT)
    return found if isinstance(found, dict) else dict(found)


def check_sizes(state: Mapping[str, Any], path: str | Path) -> None:
    """Refuse tensors that say they are far larger than the file: a stride of 0 makes 10^15 entries out of one.

    Raises:
        EvaluationError: they are; the largest is named.
    """
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    for key, value in tensors.items():
        if value.layout != torch.strided or value.device.type != "cpu":
            raise EvaluationError(
                f"{path}: {key!r} is a {value.layout} tensor on {value.device}, expected plain weights"
            )
    declared = sum(value.numel() * value.element_size() for value in tensors.values())
    path = Path(path)
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.glob("*.safetensors")))
    if declared > UNPACKED * size + 2**24:
        key = max(tensors, key=lambda k: tensors[k].numel())
        raise EvaluationError(
            f"{path} has {size:,} bytes, and its tensors say {declared:,} "
            f"({key!r} alone {tensors[key].numel():,} entries)",
            "The file is damaged, or made to fill a memory. Save its state_dict again.",
        )


def guess_classes(state: Mapping[str, Any]) -> int | None:
    """Return the number of classes that the weights suggest: the outputs of the last layer with a weight matrix."""
    heads = [v for k, v in state.items() if isinstance(v, Tensor) and v.dim() >= 2 and k.endswith("weight")]
    return int(heads[-1].shape[0]) if heads else None


def check_finite(state: Mapping[str, Any], where: str) -> None:
    """Refuse weights that are not numbers.

    Raises:
        EvaluationError: a tensor holds NaN or inf; it is named.
    """
    for key, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise EvaluationError(
                f"{where}: {bad} of {value.numel()} values of {key!r} are NaN or infinite",
                "A network with such weights has no answer. Use a checkpoint from before training diverged.",
            )


def _mapping(*_: object) -> OrderedDict[Any, Any]:
    """Stands for a defaultdict: what it holds is kept, what it would make is not."""
    return OrderedDict()


def _refusal(path: Path, message: str) -> EvaluationError:
    """Return the error for a pickle that holds more than tensors; it is not run."""
    names = re.search(r"(?:GLOBAL|global:?|class)\s+([A-Za-z_][\w.]*)", message)
    what = f" ({names.group(1)})" if names and "." in names.group(1) else ""
    if not what and "nsupported" not in message and "llowed" not in message:
        return damaged(path, "a torch checkpoint", ValueError(message))
    return EvaluationError(
        f"{path} holds pickled Python objects{what}, not only tensors; "
        "robcert did not unpickle it, because that can run any code",
        REEXPORT,
    )
