"""A trained network to disk, with its card: weights and metadata, no code."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from robcert.errors import EvaluationError, UsageError
from robcert.files import write_atomically
from robcert.network.card import PT_KEY, SAFETENSORS_KEY, Card


def save_model(module: nn.Module, card: Card, path: str | Path) -> Path:
    """Write the weights and the card, in the form that the suffix names (safetensors, pt or pth).

    An interruption leaves the old file or the new one.

    Args:
        module: the network without its normalisation; mean and std stand in the card.
        card: must name the architecture, so that the file loads without a flag.
        path: the file.

    Raises:
        UsageError: another suffix, or a folder that does not exist or cannot be written.
        EvaluationError: the disk is full.
    """
    path = Path(path)
    state = {key: value.detach().cpu() for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        # safetensors refuses names that share storage: each name gets bytes of its own.
        owned = {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}
        content = save(owned, metadata={SAFETENSORS_KEY: card.to_json()})
    elif path.suffix in (".pt", ".pth"):
        buffer = io.BytesIO()
        torch.save({"state_dict": state, PT_KEY: card.to_json()}, buffer)
        content = buffer.getvalue()
    else:
        raise UsageError(f"{path} ends in {path.suffix!r}, expected .safetensors, .pt or .pth")
    return write_model(path, lambda temporary: temporary.write_bytes(content))


def write_model(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a file with bytes, and say what a person can do where the disk refuses them.

    The writers of torch and safetensors are given no path: the one ends the process (SIGABRT) on a full disk, the other
    makes files that only their owner can read.

    Raises:
        UsageError: the folder does not exist or cannot be written.
        EvaluationError: the disk is full.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}")
    try:
        write_atomically(path, write)
    except (PermissionError, IsADirectoryError) as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written: {error.strerror or error}", "Is the disk full?") from error
    return path
