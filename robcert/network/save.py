"""A trained network to disk, with its card: weights and metadata, no code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from robcert.errors import EvaluationError, UsageError, first_line
from robcert.files import fresh
from robcert.network.card import PT_KEY, SAFETENSORS_KEY, Card


def save_model(module: nn.Module, card: Card, path: str | Path) -> Path:
    """Writes the weights and the card, in the form that the suffix names (safetensors, pt or pth).

    The file is written to a temporary name and renamed: an interruption leaves the old file or the new one.

    Args:
        module: the network without its normalisation; mean and std stand in the card.
        card: must name the architecture, so that the file loads without a flag.
        path: the file.

    Raises:
        UsageError: another suffix, or a folder that does not exist or cannot be written.
        EvaluationError: the disk is full, or the weights cannot be stored.
    """
    path = Path(path)
    state = {key: value.detach().cpu() for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise UsageError(f"{path} ends in {path.suffix!r}, expected .safetensors, .pt or .pth")
    temporary = fresh(path.with_name(f".{path.name}.partial"))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import save

            # safetensors refuses names that share storage: each name gets bytes of its own.
            owned = {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}
            # Written here, not by safetensors, which makes files that only their owner can read.
            temporary.write_bytes(save(owned, metadata={SAFETENSORS_KEY: card.to_json()}))
        else:
            torch.save({"state_dict": state, PT_KEY: card.to_json()}, temporary)
        temporary.replace(path)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
    except Exception as error:
        raise EvaluationError(f"{path} cannot be written: {first_line(error)}", "Is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
