"""Weights as data: read without running anything, unwrapped, and fitted into a network."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from robcert.errors import EvaluationError
from robcert.network.card import PT_KEY
from robcert.network.detect import REEXPORT, UNPACKED
from robcert.network.storages import check_storages

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_SAFETENSORS_ERRORS = (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        EvaluationError: the header is damaged or the data are truncated.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # safetensors maps the file: a copy survives the file being rewritten while the model is in use.
            return {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except _SAFETENSORS_ERRORS as error:
        raise _damaged(path, "safetensors", error) from None


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """The free text in the header of a safetensors file; the tensors are not read.

    Raises:
        EvaluationError: the header is damaged or the data are truncated.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except _SAFETENSORS_ERRORS as error:
        raise _damaged(path, "safetensors", error) from None


def read_pickle(path: Path, *, data: bool = True) -> dict[Any, Any]:
    """The dictionary in a ``torch.save`` file, read with ``weights_only=True``: nothing in it is executed.

    Args:
        path: the file.
        data: False leaves the tensors in the file where its form allows that.

    Raises:
        EvaluationError: the file holds Python objects, is damaged, or is no dictionary.
    """
    if zipfile.is_zipfile(path):
        check_storages(path)  # refuses also what unpacks to far more than it is
    try:
        lazy = not data and zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with a file is said once, below
            found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=lazy)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from None
    except Exception as error:  # a damaged archive fails in many ways, none of them the user's
        raise _damaged(path, "a torch checkpoint", error) from None
    if not isinstance(found, Mapping):
        raise EvaluationError(f"{path} holds a {type(found).__name__}, expected a state_dict", REEXPORT)
    return dict(found)


def unwrap(found: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """The state_dict inside a checkpoint: {"state_dict": {...}, "epoch": 3} and the like, also nested.

    Raises:
        EvaluationError: there are no tensors at the top and none of the known wrappers.
    """
    inner: Mapping[Any, Any] = found
    for _ in range(8):
        wrapper = next((key for key in WRAPPERS if isinstance(inner.get(key), Mapping)), None)
        if wrapper is None:
            break
        inner = inner[wrapper]
    state = {str(key): value for key, value in inner.items() if key != PT_KEY}
    if not any(isinstance(value, Tensor) for value in state.values()):
        keys = ", ".join(list(state)[:5]) or "nothing"
        raise EvaluationError(
            f"{where} holds no tensors where a state_dict is expected (found: {keys})",
            f"A state_dict may stand under {', '.join(WRAPPERS)}.",
        )
    return state


def check_sizes(state: Mapping[str, Any], path: Path) -> None:
    """Refuses tensors that say they are far larger than the file: a stride of 0 makes 10^15 entries out of one.

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
    size = path.stat().st_size
    if declared > UNPACKED * size + 2**24:
        key = max(tensors, key=lambda k: tensors[k].numel())
        raise EvaluationError(
            f"{path} has {size:,} bytes, and its tensors say {declared:,} "
            f"({key!r} alone {tensors[key].numel():,} entries)",
            "The file is damaged, or made to fill a memory. Save its state_dict again.",
        )


def guess_classes(state: Mapping[str, Any]) -> int | None:
    """The number of classes that the weights suggest: the outputs of the last layer with a weight matrix."""
    heads = [v for k, v in state.items() if isinstance(v, Tensor) and v.dim() >= 2 and k.endswith("weight")]
    return int(heads[-1].shape[0]) if heads else None


def check_finite(state: Mapping[str, Any], where: str) -> None:
    """Refuses weights that are not numbers.

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


def fit(module: nn.Module, state: Mapping[str, Any], where: str, architecture: str) -> None:
    """Loads a state_dict into a network, whatever harmless prefix its keys carry.

    Raises:
        EvaluationError: keys or shapes do not fit; the first few are named, all are counted.
    """
    expected = module.state_dict()
    # Copied, never aliased: several names may share one storage in the file, and values become float32 here.
    candidates = _candidates(state)
    best = min(candidates, key=lambda c: len(set(c) ^ set(expected)))
    best = {key: value for key, value in best.items() if key in expected or not _ignorable(key)}
    missing = [key for key in expected if key not in best and not _ignorable(key)]
    unexpected = [key for key in best if key not in expected]
    shapes = [
        f"{key} is {_shape(best[key])}, expected {_shape(value)}"
        for key, value in expected.items()
        if key in best and _shape(best[key]) != _shape(value)
    ]
    if missing or unexpected or shapes:
        lines = [
            f"{len(items)} {kind}: {'; '.join(items[:3])}{'; ...' if len(items) > 3 else ''}"
            for kind, items in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("of another shape", shapes),
            )
            if items
        ]
        raise EvaluationError(
            f"the weights in {where} do not fit the architecture {architecture!r} "
            f"({len(expected)} tensors expected, {len(best)} found)\n  " + "\n  ".join(lines),
            "Name the architecture that these weights were saved from with --arch"
            + (", and the number of classes with --classes." if shapes else "."),
        )
    try:
        module.load_state_dict(dict(best), strict=False)
    except Exception as error:
        raise EvaluationError(
            f"the weights in {where} cannot be loaded into {architecture!r}: {_first_line(error)}"
        ) from error


def _candidates(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The state_dict under every reading of its prefixes, the literal one first.

    A prefix may be real (an attribute called ``module``) or left behind by DataParallel or torch.compile: the
    keys that the architecture expects decide.
    """
    readings = [
        dict(state),
        {re.sub(r"(^|\.)_orig_mod\.", r"\1", key): value for key, value in state.items()},
    ]
    for reading in readings:  # grows while it is read: prefixes nest in any order
        for prefix in PREFIXES:
            keys = [key for key in reading if not _ignorable(key)]
            if keys and all(key.startswith(prefix) for key in keys):
                readings.append({key.removeprefix(prefix): value for key, value in reading.items()})
    return readings


def _refusal(path: Path, message: str) -> EvaluationError:
    """What a pickle that holds more than tensors gets instead of being run."""
    names = re.search(r"(?:GLOBAL|global:?|class)\s+([A-Za-z_][\w.]*)", message)
    what = f" ({names.group(1)})" if names and "." in names.group(1) else ""
    if not what and "nsupported" not in message and "llowed" not in message:
        return _damaged(path, "a torch checkpoint", ValueError(message))
    return EvaluationError(
        f"{path} holds pickled Python objects{what}, not only tensors; "
        "robcert did not unpickle it, because that can run any code",
        REEXPORT,
    )


def _ignorable(key: str) -> bool:
    """Counters that change no answer: batches seen by a BatchNorm, models averaged by AveragedModel."""
    return key.rpartition(".")[2] in ("num_batches_tracked", "n_averaged")


def _damaged(path: Path, kind: str, error: Exception) -> EvaluationError:
    return EvaluationError(
        f"{path} looks like {kind} but cannot be read: {_first_line(error)}",
        "It is probably damaged or truncated: copy or download it again.",
    )


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
