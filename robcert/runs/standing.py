"""Which images stood a finished run."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from robcert.errors import UsageError
from robcert.runs.record import RunRecord
from robcert.runs.summary import as_list
from robcert.types import Dataset, LoadedModel, Threat


def read_record(directory: Path) -> RunRecord:
    """The record of a finished run.

    Raises:
        UsageError: there is none.
    """
    path = directory / "record.json"
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(
            f"{directory} holds no finished run (no {path.name})",
            "Run `robcert attack` to its end; it prints the directory",
        ) from None
    except ValidationError as error:
        raise UsageError(
            f"{path} is no record of this version ({error.error_count()} differences)", "Run the attack again"
        ) from None


def standing(directory: Path, model: LoadedModel, data: Dataset, threat: Threat) -> Tensor:
    """(n,) bool: the image is right and no attack of the run broke it at the smallest budget of ``threat``.

    Raises:
        UsageError: the run is of another norm, has no such budget, model or image.
    """
    record = read_record(directory)
    eps = threat.eps[0]
    if record.threat.norm != threat.norm or eps not in record.threat.eps:
        raise UsageError(
            f"{directory} attacked {record.threat.norm} at {record.threat.eps}, not {threat.norm} at {eps:g}",
            "Attack at the same norm and eps, or certify at those",
        )
    at = record.threat.eps.index(eps)
    found = next((m for m in record.models if m.sha256 == model.source.sha256), None)
    if found is None:
        raise UsageError(
            f"{directory} did not attack {model.name}", f"It attacked: {', '.join(m.name for m in record.models)}"
        )
    status = {image.index: as_list(image.status)[at] for image in found.images}
    missing = [int(index) for index in data.index if int(index) not in status]
    if missing:
        raise UsageError(
            f"{directory} has no image {missing[0]} (it attacked {record.data.n} images of {record.data.name})",
            f"Certify the same images: --n {record.data.n} --seed {record.data.seed or 0}",
        )
    return torch.tensor([status[int(index)] in ("certified", "open") for index in data.index])
