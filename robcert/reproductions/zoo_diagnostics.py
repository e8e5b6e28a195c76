"""The warnings that models of the zoo give rise to, beside a check that does not rest on the attack."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robcert.criteria.misclassified import margin
from robcert.errors import RobcertError
from robcert.network import load_model
from robcert.network.card import read_toml
from robcert.network.zoo import CARD, zoo_names, zoo_path
from robcert.reproductions import reproduction
from robcert.reproductions._sweep import load_images
from robcert.reproductions.record import Cell, Column, ReproduceRecord, Table
from robcert.reproductions.settings import Settings
from robcert.runs.api import attack
from robcert.runs.plan import NAMED
from robcert.runs.record import ModelRecord, WarningRecord
from robcert.threats.kind import norm_of
from robcert.types import Dataset, LoadedModel, Threat, ThreatNorm

EPS: dict[str, dict[ThreatNorm, float]] = {"digits": {"l2": 0.5, "linf": 0.08}, "mnist": {"l2": 1.5, "linf": 0.1}}
PLAN = "autoattack"
FAR = 2.0
"""A gradient that puts the boundary this many times as far away as it is points somewhere else."""


@dataclass(frozen=True)
class Attacked:
    """A model of the zoo under the plan."""

    name: str
    model: LoadedModel
    images: Dataset
    threat: Threat
    found: ModelRecord
    run: str | None

    @property
    def label(self) -> str:
        """Model and budget."""
        return f"{self.name}, {self.threat.norm} {self.threat.largest:g}"


@reproduction("zoo-diagnostics", "max_iterations", "restarts", "models")
def zoo_diagnostics(settings: Settings) -> ReproduceRecord:
    """No paper's table: the zoo under AutoAttack's plan, its warnings, and an independent check of each."""
    settings.without_models("zoo-diagnostics")
    attacked, missing = _attack_all(settings)
    fired: list[list[Cell]] = []
    lines: list[str] = []
    for one in attacked:
        for warning in one.found.warnings:
            row, line = _checked(one, warning, settings)
            fired.append(row)
            lines.append(line)
    tables = [_overview(attacked)]
    if fired:
        columns = [
            *(Column(name=name, source="label", kind="text") for name in ("model", "warning")),
            *(Column(name=name, kind="number") for name in ("images", "cw 1k breaks", "boundary by gradient / found")),
            Column(name="the same, all broken images", kind="number"),
        ]
        tables.append(Table(title="Each warning, checked", columns=columns, rows=fired))
    n = len(attacked[0].images) if attacked else 0
    return ReproduceRecord(
        name="zoo-diagnostics",
        title="Diagnostics of the zoo",
        command=f"robcert reproduce zoo-diagnostics{f' --data {settings.data}' if settings.data else ''} --n {n}",
        tables=tables,
        differences=[
            f"Plan: {PLAN} ({NAMED[PLAN]['l2']}), no certificates; a subset of {n} test images.",
            "The check does not use the plan: cw with 1,000 iterations, which descends in other coordinates, on the"
            " images of the warning; and how far away the gradient at the clean image puts the boundary (margin over"
            " dual norm of its gradient), over the distance of the closest example that is known: 1 where a network is"
            " linear.",
            *missing,
        ],
        verdicts=lines,
        runs=[one.run for one in attacked if one.run is not None],
    )


def _attack_all(settings: Settings) -> tuple[list[Attacked], list[str]]:
    attacked: list[Attacked] = []
    missing: list[str] = []
    for name in zoo_names():
        data = read_toml(zoo_path(name) / CARD).data
        if data not in EPS or (settings.data is not None and data != settings.data):
            continue
        try:
            images = load_images(replace(settings, data=None), data, n=settings.n)
        except RobcertError:
            missing.append(f"{name} is left out: {data} is not on this machine")
            continue
        model = load_model(name, device=settings.device)
        for norm, eps in EPS[data].items():
            threat = Threat(norm, (eps,), images.box)
            record = attack(
                model, images, threat, PLAN, certify="none", seed=settings.seed, runs=settings.runs,
                reporter=settings.reporter, cpu_threads=settings.threads,
            )  # fmt: skip
            attacked.append(Attacked(name, model, images, threat, record.models[0], record.run))
    return attacked, missing


def _overview(attacked: list[Attacked]) -> Table:
    rows: list[list[Cell]] = []
    for one in attacked:
        standing = sum(image.status in ("open", "certified") for image in one.found.images)
        names = ", ".join(warning.name for warning in one.found.warnings) or "none"
        n = one.found.n
        rows.append(
            [one.name, str(one.threat.norm), one.threat.largest, one.found.natural_correct / n, standing / n, names]
        )
    columns = [
        *(Column(name=name, source="label", kind="text") for name in ("model", "norm")),
        Column(name="eps", kind="number"),
        *(Column(name=name) for name in ("natural", "attacked")),
        Column(name="warnings", kind="text"),
    ]
    return Table(title="Warnings", columns=columns, rows=rows)


def _checked(one: Attacked, warning: WarningRecord, settings: Settings) -> tuple[list[Cell], str]:
    """A row of the table, and what it says."""
    concerned = [k for k, image in enumerate(one.found.images) if image.index in set(warning.images)]
    head = f"{one.label}: {warning.name}, {len(concerned)} images"
    if not concerned:
        return [one.label, warning.name, 0.0, None, None, None], f"{head}; {warning.message}"
    rows = torch.tensor(concerned, device=one.images.x.device)
    part = replace(one.images, x=one.images.x[rows], y=one.images.y[rows], index=one.images.index[rows])
    again = attack(
        one.model, part, one.threat, "cw:1k", goal="minimize", certify="none", seed=settings.seed, runs=settings.runs,
        reporter=settings.reporter, cpu_threads=settings.threads,
    ).models[0]  # fmt: skip
    breaks = sum(image.status == "broken" for image in again.images)
    closest = {image.index: image.distance for image in one.found.images if image.distance}
    for image in again.images:
        if image.distance is not None:
            closest[image.index] = min(image.distance, closest.get(image.index, float("inf")))
    own, all_ = _ratio(one, part, closest), _ratio(one, one.images, closest)
    row: list[Cell] = [one.label, warning.name, float(len(concerned)), float(breaks), own, all_]
    if own is None:
        return row, f"{head}: cw breaks {breaks} of them; no example of any is known"
    left = len(concerned) - breaks
    if left:
        verdict = f"confirmed: another gradient attack leaves {left} of them too"
    else:
        verdict = (
            "confirmed: the gradient points elsewhere" if own > FAR else "not confirmed: a longer attack finds them all"
        )
    return row, (
        f"{head}: cw breaks {breaks} of them; at the clean image the gradient puts the boundary {own:.1f} times as far"
        f" away as an example is; {verdict}"
    )


def _ratio(one: Attacked, images: Dataset, closest: dict[int, float]) -> float | None:
    """Median over images with a known example: distance of the linearised boundary over that of the example."""
    known = [k for k, index in enumerate(images.index.tolist()) if index in closest]
    if not known:
        return None
    rows = torch.tensor(known, device=images.x.device)
    far = _linearised(one.model, images.x[rows], images.y[rows], one.threat.norm)
    near = [closest[int(index)] for index in images.index[rows]]
    return statistics.median(a / b for a, b in zip(far.tolist(), near, strict=True))


def _linearised(model: LoadedModel, x: Tensor, y: Tensor, norm: ThreatNorm) -> Tensor:
    """Return the distance at which the gradient of the margin puts the boundary: (n,)."""
    point = x.detach().requires_grad_(True)
    value = margin(model.module(point), y)
    (gradient,) = torch.autograd.grad(value.sum(), point)
    return -value.detach() / norm_of(norm).dual(gradient).clamp_min(1e-30)
