"""The executed network as a file that needs no robcert: torch alone loads and runs it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from robcert.errors import EvaluationError, first_line
from robcert.network import card as cards
from robcert.network import graph_files
from robcert.network.card import EXTRA_FILE, Card
from robcert.network.export_errors import export_error, quiet
from robcert.network.fold import copy_module
from robcert.network.save import write_model
from robcert.types import LoadedModel


def export_pt2(
    model: LoadedModel,
    path: str | Path,
    card_extra: Mapping[str, Any] | None = None,
    *,
    exported: ExportedProgram | None = None,
) -> Path:
    """Write the network that robcert executes: float32, folded, normalisation inside, logits out.

    ``torch.export.load(path).module()(x)`` runs it on any number of images; robcert loads it without a flag.
    A TorchScript network cannot be exported and is written as a TorchScript archive (``.pt``), for
    ``torch.jit.load``. The file takes its name when it was read back and compared.

    Args:
        model: what `load_model` returned.
        path: the file; the suffix becomes ``.pt2`` (``.pt`` for TorchScript).
        card_extra: fields of the card to set, e.g. {"data": "digits"}.
        exported: the network as `exported_program` returns it, where that has been done.

    Returns:
        The path that was written.

    Raises:
        UsageError: the folder does not exist or cannot be written; an unknown field of the card.
        EvaluationError: torch cannot export the network, or what was written answers differently.
    """
    path = Path(path)
    card = described(model, card_extra or {})
    module, script = executed(model)

    def write(temporary: Path) -> None:
        with graph_files.without_deprecations():
            content = _script(module, model, card) if script else _archive(exported, module, model, card)
        temporary.write_bytes(content)
        same_answers(
            model, module, graph_files.load_torchscript(temporary) if script else graph_files.load_export(temporary)
        )

    return write_model(path.with_suffix(".pt" if script else ".pt2"), write)


def executed(model: LoadedModel) -> tuple[nn.Module, bool]:
    """Return a copy of the network on the CPU, and whether TorchScript is in it, of which torch exports no graph."""
    with graph_files.without_deprecations():
        module = copy_module(model.module).cpu().eval()
    return module, any(isinstance(layer, torch.jit.ScriptModule) for layer in module.modules())


def described(model: LoadedModel, extra: Mapping[str, Any]) -> Card:
    """Return the card of the executed network: its normalisation is in the graph and must not be applied again."""
    inside = {"mean", "std", "scale"}
    if cards.names_code((model.card or {}).get("architecture")):
        inside |= {"architecture", "options"}
    known = {key: value for key, value in (model.card or {}).items() if key not in inside}
    own = {
        "name": model.name,
        "input_shape": list(model.input_shape),
        "num_classes": model.num_classes,
        "box": list(model.box),
    }
    return cards.parse({**known, **own, **extra}, "the exported model")


def exported_program(module: nn.Module, model: LoadedModel) -> ExportedProgram:
    """Return the graph of the network for any number of images.

    Raises:
        EvaluationError: torch cannot export it.
    """
    x = torch.full((2, *model.input_shape), model.box[0])
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},), strict=False)
        except Exception as error:  # whatever a forward may raise under tracing
            raise export_error(error, model.name, module, x) from error


def _archive(exported: ExportedProgram | None, module: nn.Module, model: LoadedModel, card: Card) -> bytes:
    exported, content = exported or exported_program(module, model), io.BytesIO()
    try:
        torch.export.save(exported, content, extra_files={EXTRA_FILE: card.to_json()})
    except RuntimeError as error:
        raise EvaluationError(f"torch cannot write {model.name}: {first_line(error)}") from error
    return content.getvalue()


def _script(module: nn.Module, model: LoadedModel, card: Card) -> bytes:
    content = io.BytesIO()
    try:
        # What stands around TorchScript (a normalisation, a choice of the logits) is traced; what is inside stays.
        x = torch.full((2, *model.input_shape), model.box[0])
        whole = isinstance(module, torch.jit.ScriptModule)
        scripted: Any = module if whole else torch.jit.trace(module, (x,), check_trace=False)
        torch.jit.save(scripted, content, _extra_files={EXTRA_FILE: card.to_json()})
    except RuntimeError as error:
        raise EvaluationError(f"torch cannot write {model.name}: {first_line(error)}") from error
    return content.getvalue()


AGREE = 1e-5
"""How far the logits of what was written may be from the network's, relative to the largest |logit| of an image."""


def same_answers(model: LoadedModel, module: nn.Module, written: nn.Module, device: str = "cpu") -> float:
    """Check that what was written answers as the network does, for 16 images and for one alone.

    Returns:
        The largest difference, relative to the largest |logit| of the image.

    Raises:
        EvaluationError: it is larger than the network's rounding bound, or than `AGREE`.
    """
    low, high = model.box
    generator = torch.Generator().manual_seed(2)
    x = low + (high - low) * torch.rand(16, *model.input_shape, generator=generator)
    worst = 0.0
    with torch.no_grad():
        for images in (x.to(device), x[:1].to(device)):
            expected, found = module(images), written(images)
            difference = (found - expected).abs().amax(1) / expected.abs().amax(1).clamp_min(1e-30)
            worst = max(worst, float(difference.max()))
    if not worst <= max(model.rounding, AGREE):
        raise EvaluationError(
            f"the exported form of {model.name} answers differently (by {worst:.2g} of the largest |logit|)",
            "A random network cannot be exported; for any other, please report this as a bug.",
        )
    return worst
