"""``robcert.export``: a model in another format, checked by loading it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robcert.errors import UsageError
from robcert.network.card import Card, names_code
from robcert.network.digest import sha256_file
from robcert.network.export import export_pt2, same_answers
from robcert.network.libraries._packages import Access
from robcert.network.load import load_model, read_weights
from robcert.network.onnx_export import export_onnx
from robcert.network.save import save_model
from robcert.types import LoadedModel

SUFFIXES = (".onnx", ".pt2", ".safetensors")


@dataclass(frozen=True)
class Exported:
    """A file that was written and loaded again.

    Attributes:
        path: the file.
        format: as `robcert.types.Source` calls it.
        size: in bytes.
        sha256: of the file.
        difference: the largest difference of a logit from the model's, relative to the largest |logit| of the image,
            over 16 random images of the box.
        runs: what can execute the file.
        notes: what was decided in reading the model, a sentence each.
    """

    path: str
    format: str
    size: int
    sha256: str
    difference: float
    runs: str
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"schema": "robcert.export/1", **{k: v for k, v in asdict(self).items() if k != "notes"}}


def export(
    model: str,
    target: str | Path,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights_key: str | None = None,
    box: tuple[float, float] | None = None,
    device: str = "cpu",
    random_weights: bool = False,
    download: bool = False,
) -> Exported:
    """Write a model as ONNX, as a torch.export archive, or as safetensors with its card, and check it.

    Args:
        model: a file or a name of the zoo; the other arguments are those of `robcert.load_model`.
        target: ends in .onnx, .pt2 or .safetensors.
        arch: for a file of weights: its architecture.
        input_shape: of one image.
        num_classes: that the network must have.
        mean: of the normalisation that the network expects.
        std: likewise.
        weights_key: which weights of a checkpoint that holds several.
        box: the smallest and the largest value of an input entry.
        device: where what was written and the model are compared; the file is for all devices.
        random_weights: whether a name of a library stands for its architecture with random weights.
        download: whether files that a name of a library needs may be downloaded.

    Returns:
        The file, its digest, and how far its logits are from those of the model.

    Raises:
        UsageError: another suffix; a folder that does not exist; safetensors of a model that is a graph.
        EvaluationError: the model cannot be loaded or written, or what was written answers differently.
    """
    path = Path(target)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} ends in {path.suffix!r}", f"robcert writes {', '.join(SUFFIXES)}.")
    facts: dict[str, Any] = {
        "arch": arch,
        "input_shape": input_shape,
        "num_classes": num_classes,
        "mean": mean,
        "std": std,
        "weights_key": weights_key,
        "box": box,
        "random_weights": random_weights,
        "download": download,
    }
    loaded = load_model(model, **facts)
    if path.suffix == ".onnx":
        written, runs = export_onnx(loaded, path), "onnxruntime and other runtimes; robcert without a flag"
    elif path.suffix == ".pt2":
        written, runs = export_pt2(loaded, path), "torch.export.load; robcert without a flag"
    else:
        written = _weights(loaded, path, weights_key, Access(random_weights))
        runs = "robcert without a flag, where it has the architecture"
        if names_code(arch):
            runs = f"robcert with --arch {arch}"
    again = load_model(written, arch=arch if path.suffix == ".safetensors" else None, device=device)
    there = loaded if device == "cpu" else load_model(model, **facts, device=device)
    difference = same_answers(there, there.module, again.module, device)
    size, sha256 = written.stat().st_size, sha256_file(written)
    return Exported(str(written), again.source.format, size, sha256, difference, runs, loaded.notes)


def _weights(model: LoadedModel, path: Path, weights_key: str | None, access: Access) -> Path:
    """Write the weights as they were, before folding, with a card that says all that was given."""
    card = Card.model_validate(model.card or {})
    found = read_weights(model.source.reference, card, weights_key, access)
    if found is None:
        raise UsageError(
            f"{model.name} is a graph ({model.source.format}), while safetensors hold weights of an architecture",
            f"Write a graph: robcert export {model.source.reference} {path.with_suffix('.onnx')}",
        )
    return save_model(found, card, path)
