"""Reads finished runs: the images that stood, and the distances of their closest examples."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from robcert.criteria.misclassified import MISCLASSIFIED
from robcert.errors import UsageError
from robcert.runs.directory import read_spec
from robcert.runs.record import ModelRecord, RunRecord
from robcert.runs.summary import as_list
from robcert.types import Dataset, LoadedModel, Threat, ThreatNorm


def read_record(directory: Path) -> RunRecord:
    """Return the record of a finished run.

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


def read_verdicts(directory: Path) -> RunRecord:
    """Return the record of a finished run that speaks of wrong answers.

    Raises:
        UsageError: there is none, or success was something else.
    """
    criterion = read_spec(directory).criterion
    if criterion != MISCLASSIFIED.name:
        raise UsageError(
            f"{directory} attacked with the criterion {criterion!r}, which says nothing about wrong answers",
            "Attack without another criterion",
        )
    return read_record(directory)


def standing(directory: Path, model: LoadedModel, data: Dataset, threat: Threat) -> Tensor:
    """(n,) bool: the image is right and no attack of the run broke it at the smallest budget of ``threat``.

    Raises:
        UsageError: the run is of another norm, has no such budget, model or image.
    """
    record = read_verdicts(directory)
    eps = threat.eps[0]
    if record.threat.norm != threat.norm or eps not in record.threat.eps:
        raise UsageError(
            f"{directory} attacked {record.threat.norm} at {record.threat.eps}, not {threat.norm} at {eps:g}",
            "Attack at the same norm and eps, or certify at those",
        )
    at = record.threat.eps.index(eps)
    found = _of_model(directory, record, model)
    if found.stopped is not None:
        raise UsageError(
            f"the attack on {model.name} in {directory} was ended early ({found.stopped})",
            "Run the same `robcert attack` to its end first",
        )
    status = {image.index: as_list(image.status)[at] for image in found.images}
    missing = [int(index) for index in data.index if int(index) not in status]
    if missing:
        raise UsageError(
            f"{directory} has no image {missing[0]} (it attacked {record.data.n} images of {record.data.name})",
            f"Certify the same images: --n {record.data.n} --seed {record.data.seed or 0}",
        )
    return torch.tensor([status[int(index)] in ("certified", "open") for index in data.index])


def adversarial_distances(directory: Path, model: LoadedModel, data: Dataset, norm: ThreatNorm) -> Tensor:
    """(n,) float64: the distance of the closest example that a finished run found.

    0 where the image is wrong, inf where no example was found, NaN where it was not attacked (see `skipped`).

    Raises:
        UsageError: the run stopped at eps, is of another norm, or has no such model or image.
    """
    record = read_verdicts(directory)
    if record.goal != "minimize":
        raise UsageError(
            f"{directory} stopped at the first example within eps, so its distances are not the closest",
            "Attack with --goal minimize",
        )
    if record.threat.norm != norm:
        raise UsageError(f"{directory} attacked in {record.threat.norm}, not in {norm}", "Give that norm with --norm")
    found = _of_model(directory, record, model)
    known = {image.index: image for image in found.images}
    missing = [int(index) for index in data.index if int(index) not in known]
    if missing:
        raise UsageError(
            f"{directory} has no image {missing[0]} (it attacked {record.data.n} images of {record.data.name})",
            f"Measure the same images: --n {record.data.n} --seed {record.data.seed or 0}",
        )
    images = [known[int(index)] for index in data.index]
    distance = torch.tensor([math.inf if i.distance is None else i.distance for i in images], dtype=torch.float64)
    radius = torch.tensor([i.radius or 0.0 for i in images], dtype=torch.float64)
    return torch.where(skipped(distance, radius, record.threat.eps[-1]), math.nan, distance)


def _of_model(directory: Path, record: RunRecord, model: LoadedModel) -> ModelRecord:
    of_file = [one for one in record.models if one.sha256 == model.source.sha256]
    found = next((one for one in of_file if one.network == model.source.network), None)
    if found is not None:
        return found
    if of_file:
        raise UsageError(
            f"{directory} attacked another network of the same file as {model.name}: layers, their code or the "
            "normalisation have changed",
            "Attack it again",
        )
    raise UsageError(
        f"{directory} did not attack {model.name}", f"It attacked: {', '.join(m.name for m in record.models)}"
    )


def skipped(distance: Tensor, radius: Tensor | None, largest: float) -> Tensor:
    """(n,) bool: images that a run did not attack, because they are certified beyond its largest budget."""
    none = torch.zeros_like(distance, dtype=torch.bool)
    return none if radius is None else distance.isinf() & (radius > largest)
