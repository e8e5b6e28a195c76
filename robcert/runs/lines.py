"""Finished runs side by side: error curves, estimates, times (paper E, section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from robcert.attacks import attacks
from robcert.data import load_dataset
from robcert.errors import EvaluationError, UsageError
from robcert.math.shapes import refit
from robcert.network import load_model
from robcert.preparation import Preparation
from robcert.runs.artefacts import artefact_name
from robcert.runs.directory import read_spec
from robcert.runs.record import DataRecord, ImageRecord, ModelRecord, RunRecord
from robcert.runs.run_reader import read_record, skipped
from robcert.runs.spec import data_record
from robcert.sensitivity.jacobian import Sensitivity, sensitivity
from robcert.sensitivity.vulnerability import by_loss, by_margin, rank_correlation
from robcert.types import Dataset, ThreatNorm, bound_norm


@dataclass(frozen=True)
class Correlations:
    """Spearman's rank correlations with the distances that were found; None where they have no meaning."""

    loss: float | None
    margin: float | None
    gap: float | None


@dataclass(frozen=True)
class Line:
    """One model in one run.

    Attributes:
        label: the model, the attacks, or both: what tells it from the other lines.
        run, model, attacks: where it is from.
        distance: (n,) float64 in the order of the run: 0 where wrong, inf where no example was found.
        radius: (n,) float64, certified radii; None where nothing was certified.
        limit: up to which distance the curve is known: the run's largest budget, beyond which certified images were
            not attacked; inf where every image was.
        calls: median over the broken images of the model calls up to the closest example; None where none was broken.
        gradients: norms on the same images; None where they were not asked for.
        correlations: of estimates from one gradient with ``distance``; likewise.
    """

    label: str
    run: str
    model: str
    attacks: tuple[str, ...]
    distance: Tensor
    radius: Tensor | None
    limit: float
    calls: float | None
    gradients: Sensitivity | None = None
    correlations: Correlations | None = None

    @property
    def median(self) -> float:
        """The median distance; infinite where no example was found that far, or where it lies beyond `limit`."""
        # The lower of two middle ones, as in the record of a run: the mean with infinity would say nothing.
        value = float(self.distance.sort().values[int(0.5 * (len(self.distance) - 1))])
        return value if value <= self.limit else math.inf


@dataclass(frozen=True)
class Comparison:
    """Lines over the same images in the same norm."""

    norm: ThreatNorm
    data: DataRecord
    lines: tuple[Line, ...]


def read_lines(directories: Sequence[Path], data_dir: Path | None = None, gradients: bool = True) -> Comparison:
    """Read finished runs.

    Args:
        directories: runs with the goal "minimize", of the same images in the same norm.
        data_dir: the folder of the data sets, for the gradients.
        gradients: measure gradient norms too, of the networks that are stored in the runs.

    Raises:
        UsageError: no run, a run that stopped at eps, runs of other images or another norm.
        EvaluationError: the images or a network cannot be read; a certificate that an attack contradicts.
    """
    if not directories:
        raise UsageError("no run was given", "Example: robcert compare runs/plain runs/robust")
    records = [read_record(directory) for directory in directories]
    first = records[0]
    for directory, record in zip(directories, records, strict=True):
        _check(directory, record, directories[0], first)
    several = len({model.sha256 for record in records for model in record.models}) > 1
    data = _images(first.data, data_dir) if gradients else None
    lines: list[Line] = []
    for directory, record in zip(directories, records, strict=True):
        for number, model in enumerate(record.models):
            lines.append(_line(directory, record, number, model, data, several))
    for more in (lambda line: ", ".join(line.attacks), lambda line: Path(line.run).name):
        labels = [line.label for line in lines]
        lines = [
            line if labels.count(line.label) == 1 else replace(line, label=f"{line.label} ({more(line)})")
            for line in lines
        ]
    return Comparison(first.threat.norm, first.data, tuple(lines))


def calls(image: ImageRecord) -> float | None:
    """Model calls, forward or backward, of the leg and restart that found the closest example, up to that example."""
    if image.attack is None or image.iteration is None or image.attack not in attacks:
        return None
    cost = attacks.get(image.attack).cost
    return image.iteration * (cost.forwards + cost.backwards) / max(1, cost.forwards)


def _check(directory: Path, record: RunRecord, other: Path, first: RunRecord) -> None:
    if record.goal != "minimize":
        raise UsageError(
            f"{directory} stopped at the first example within eps, so it has no error curve",
            "Attack with --goal minimize",
        )
    criterion, other_criterion = (read_spec(one).criterion for one in (directory, other))
    if criterion != other_criterion:
        raise UsageError(
            f"{directory} has the criterion {criterion!r}, {other} {other_criterion!r}", "Compare runs of one criterion"
        )
    if record.threat.norm != first.threat.norm:
        raise UsageError(
            f"{directory} is in {record.threat.norm}, {other} in {first.threat.norm}", "Compare runs of one norm"
        )
    if record.data.sha256 != first.data.sha256:
        raise UsageError(
            f"{directory} attacked other images ({_which(record.data)}) than {other} ({_which(first.data)})",
            "Attack the same images: the same --data, --split, --n and --seed",
        )


def _which(data: DataRecord) -> str:
    return f"{data.name} {data.split}, n {data.n}, seed {data.seed}"


def _images(data: DataRecord, data_dir: Path | None) -> Dataset:
    n = None if data.seed is None else data.n
    images = load_dataset(
        data.name,
        split=data.split,
        n=n,
        seed=data.seed or 0,
        data_dir=data_dir,
        class_order=data.class_order,
        preparation=None if data.pipeline is None else Preparation("the run", data.pipeline),
    )
    if data.shape is not None and (fitted := refit(images.x, tuple(data.shape))) is not None:
        images = replace(images, x=fitted[0])
    if data_record(images).sha256 != data.sha256:
        raise EvaluationError(
            f"the images of {data.name} are not those that were attacked",
            "Find the data set as it was, or leave the gradients out: --no-gradients",
        )
    return images


def _line(
    directory: Path, record: RunRecord, number: int, model: ModelRecord, data: Dataset | None, several: bool
) -> Line:
    used = tuple(dict.fromkeys(leg.attack for leg in model.legs))
    distance = torch.tensor([math.inf if i.distance is None else i.distance for i in model.images], dtype=torch.float64)
    radius = None
    if model.certificate is not None:
        radius = torch.tensor([i.radius or 0.0 for i in model.images], dtype=torch.float64)
        if bool(((radius > 0) & (distance <= radius)).any()):
            raise EvaluationError(
                f"{directory}: an adversarial example of {model.name} lies inside a certified radius",
                "This is a defect of robcert: please report it with the run directory",
            )
    left = skipped(distance, radius, record.threat.eps[-1])
    broken = sorted(found for image in model.images if image.distance and (found := calls(image)) is not None)
    line = Line(
        label=model.name if several else ", ".join(used),
        run=str(directory),
        model=model.name,
        attacks=used,
        distance=distance,
        radius=radius,
        limit=record.threat.eps[-1] if bool(left.any()) else math.inf,
        calls=broken[(len(broken) - 1) // 2] if broken else None,
    )
    return line if data is None else _measured(line, directory, number, data, record.threat.norm)


def _measured(line: Line, directory: Path, number: int, data: Dataset, norm: ThreatNorm) -> Line:
    name = artefact_name(read_spec(directory), number)
    stored = sorted(directory.glob(f"network-{name}.pt*"))
    if not stored:
        raise EvaluationError(f"{directory} holds no network-{name}.pt2", "Leave the gradients out: --no-gradients")
    network = load_model(stored[0], input_shape=data.shape, box=data.box, name=line.model)
    found = sensitivity(network, data, bound_norm(norm))
    known = torch.where(skipped(line.distance, line.radius, line.limit), math.nan, line.distance)
    correlations = Correlations(
        loss=rank_correlation(by_loss(found), known),
        margin=rank_correlation(by_margin(found), known),
        gap=rank_correlation(found.values["gap"].clamp_min(0), known),
    )
    return replace(line, gradients=found, correlations=correlations)
