"""Tables 1 and 2 of paper B: with and without divide-before-convolution, attacked in two ways."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch

from robcert.bounds.lipschitz.network_bound import lipschitz_bound
from robcert.data import load_dataset
from robcert.math.binomial import interval
from robcert.network import load_model, save_model
from robcert.network.card import read_toml
from robcert.network.zoo import CARD, WEIGHTS
from robcert.nn.heads import Heads
from robcert.reproductions import reproduction
from robcert.reproductions._sweep import load_images
from robcert.reproductions._trained import base, changed, trained
from robcert.reproductions.record import Cell, Column, ReproduceRecord, Table
from robcert.reproductions.settings import Settings
from robcert.runs.api import attack
from robcert.runs.plan import LegPlan
from robcert.runs.summary import as_list
from robcert.training import Recipe, measure
from robcert.types import Dataset, LoadedModel, Threat

EPS = 0.3
STEPS = 40
STEP = 0.01 / EPS
SCALES = (1e-3, 1.0, 1e3)
PLAIN: dict[str, dict[str, Any]] = {
    "fgsm": {"objective": "ce-plain"},
    "pgd": {"objective": "ce-plain", "step_size": STEP},
}
SCALE_FREE: dict[str, dict[str, Any]] = {"fgsm": {"objective": "margin"}, "pgd": {"objective": "alternate"}}


@dataclass(frozen=True)
class Paper:
    """A row of the paper: NAT, FGSM, PGD, gap."""

    weight: float
    divide: bool
    natural: float
    fgsm: float
    pgd: float
    gap: float


PLAIN_NET = (
    Paper(0.0, False, 0.8689, 0.8690, 0.8610, 4.796e-3),
    Paper(0.0, True, 0.8230, 0.8225, 0.7059, 5.533e-3),
    Paper(0.1, False, 0.8883, 0.8842, 0.6535, 3.372e-3),
    Paper(0.1, True, 0.9900, 0.0366, 0.0091, 7.211e-1),
    Paper(0.5, False, 0.7937, 0.7705, 0.6585, 7.950e-4),
    Paper(0.5, True, 0.9742, 0.0432, 0.0310, 5.776e-1),
)
RESNET = (
    Paper(0.0, False, 0.6694, 0.6691, 0.5781, 1.642),
    Paper(0.0, True, 0.2037, 0.2032, 0.2233, 1.116),
    Paper(0.1, False, 0.7505, 0.7390, 0.6139, 9.103),
    Paper(0.1, True, 0.9883, 0.0116, 0.0034, 1.678),
    Paper(0.5, False, 0.9044, 0.9021, 0.5479, 2.230),
    Paper(0.5, True, 0.9392, 0.0399, 0.0107, 0.470),
)


@dataclass(frozen=True)
class Attacked:
    """The accuracy left under FGSM and PGD, with the plain cross-entropy and with objectives that know no scale."""

    fgsm: float
    pgd: float
    fgsm_free: float
    pgd_free: float
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """One network: its kind, its row of the paper, what is left of it, and its median certified radius."""

    kind: str
    paper: Paper
    attacked: Attacked
    radius: float


@reproduction("l2nnn-resnet-table", "max_iterations", "restarts", "models")
def l2nnn_resnet_table(settings: Settings) -> ReproduceRecord:
    """Tables 1 and 2 of Certified Defense with Nonexpansive Neural Networks: divide-before-convolution (digits)."""
    settings.without_models("l2nnn-resnet-table")
    name = settings.data or "digits"
    images = load_images(settings, name, n=settings.n)
    test = load_dataset(name, split="test", data_dir=settings.data_dir, download=settings.download)
    recipe = _quick(base(name))
    tables: list[Table] = []
    kept: list[str] = []
    found: list[Found] = []
    divided: LoadedModel | None = None
    for kind, title, papers in (
        ("l2nnn", "Table 1: L2NNN", PLAIN_NET),
        ("l2nnn-resnet", "Table 2: with ResNet", RESNET),
    ):
        rows: list[list[Cell]] = []
        for paper in papers:
            model = trained(_recipe(recipe, kind, paper), settings)
            attacked = _attacked(model, images, settings)
            kept += attacked.runs
            rows.append(_row(model, test, paper, attacked, settings))
            found.append(Found(kind, paper, attacked, float(rows[-1][-1] or 0.0)))
            if kind == "l2nnn" and paper.divide and paper.weight == 0.1:
                divided = model
        tables.append(
            Table(title=f"{title} ({name}, linf eps {EPS:g}, n {len(images)})", columns=_columns(), rows=rows)
        )
    assert divided is not None
    rows = []
    scaled: list[Attacked] = []
    for scale in SCALES:
        model = _scaled(divided, scale, settings)
        attacked = _attacked(model, images, settings)
        scaled.append(attacked)
        kept += attacked.runs
        rows.append(_row(model, test, None, attacked, settings, f"logits times {scale:g}"))
    tables.append(
        Table(title="The same network (w 0.1, dbc) with its logits multiplied", columns=_columns(), rows=rows)
    )
    return ReproduceRecord(
        name="l2nnn-resnet-table",
        title="Paper B, tables 1 and 2: divide before convolution (dbc), and weight regularisation loss (w)",
        command=f"robcert reproduce l2nnn-resnet-table --data {name} --n {len(images)}",
        tables=tables,
        differences=[
            f"Data: {name}; the paper's tables are on MNIST.",
            "Networks: ours; the paper gives neither sizes nor schedule. All are trained with W' = W / sqrt(b(W))"
            " throughout; w is the weight of L_W beside it; without dbc the input of a convolution is not divided by"
            " sqrt(K), so that the layer may expand by sqrt(K).",
            f"FGSM and PGD as in the paper ({STEPS} steps of 0.01; robcert counts an image as broken as soon as one"
            " iterate breaks it) with the cross-entropy of the logits as they are; *-free: the margin, and PGD that"
            " climbs a cross-entropy at a temperature of its own and then the margin, with robcert's step sizes.",
            "radius: the median of gap / L over all test images, 0 where wrong, in l2: what the gap certifies.",
        ],
        verdicts=_verdicts(found, scaled, len(images)),
        runs=kept,
    )


def _quick(recipe: Recipe) -> Recipe:
    """Twelve networks in minutes: fewer epochs than for the zoo, at least a tenth as many."""
    return changed(recipe, recipe.name, top={"epochs": max(1, recipe.epochs // 5)})


def _recipe(recipe: Recipe, kind: str, paper: Paper) -> Recipe:
    options: dict[str, Any] = {"channels": [8], "hidden": [32], "divide_before": paper.divide}
    if recipe.data != "digits":
        options["channels"] = [8, 16]
    weight = f"{paper.weight:g}".replace(".", "_")
    return changed(
        recipe,
        f"{recipe.data}-{kind}-w{weight}{'-dbc' if paper.divide else ''}",
        architecture={"name": kind, "options": options},
        objective={"penalty": paper.weight, "keep_penalty": True, "switch_epoch": 0, "divide": "whole"},
    )


def _attacked(model: LoadedModel, images: Dataset, settings: Settings) -> Attacked:
    shares: list[float] = []
    kept: list[str] = []
    for options in (PLAIN, SCALE_FREE):
        for leg in (LegPlan("fgsm", 2), LegPlan("pgd", STEPS)):
            record = attack(
                model,
                images,
                Threat("linf", (EPS,), images.box),
                [leg],
                goal="decide",
                certify="none",
                seed=settings.seed,
                options={leg.attack: options[leg.attack]},
                runs=settings.runs,
                reporter=settings.reporter,
                cpu_threads=settings.threads,
                search_precision="float32",
            )
            one = record.models[0]
            shares.append(as_list(one.legs[-1].attacked_correct)[0] / one.n)
            kept += [record.run] if record.run is not None else []
    return Attacked(*shares, runs=tuple(kept))


def _columns() -> list[Column]:
    pairs = [Column(name=label, source=source) for label in ("NAT", "FGSM", "PGD") for source in ("ours", "paper")]
    return [
        Column(name="network", source="label", kind="text"),
        *pairs,
        Column(name="FGSM-free"),
        Column(name="PGD-free"),
        Column(name="gap", kind="number"),
        Column(name="gap", source="paper", kind="number"),
        Column(name="radius", kind="number"),
    ]


def _row(
    model: LoadedModel, test: Dataset, paper: Paper | None, attacked: Attacked, settings: Settings, label: str = ""
) -> list[Cell]:
    seen = measure(model.module, test, torch.device(settings.device))
    slope = float(lipschitz_bound(model, "l2").pairs.max())
    radius = torch.where(seen.correct, seen.gap / slope, torch.zeros_like(seen.gap))
    if paper is not None:
        label = f"w {paper.weight:g}{', dbc' if paper.divide else ''}"
    p = paper
    return [
        label,
        *(seen.accuracy, p and p.natural, attacked.fgsm, p and p.fgsm, attacked.pgd, p and p.pgd),
        *(attacked.fgsm_free, attacked.pgd_free, seen.mean_gap, p and p.gap, float(radius.median())),
    ]


def _scaled(model: LoadedModel, scale: float, settings: Settings) -> LoadedModel:
    """The network with its last layer multiplied, written beside the others and loaded again."""
    trained_as = settings.runs / "trained" / model.name
    folder = settings.runs / "trained" / f"{model.name}-times-1e{round(math.log10(scale)):d}"
    folder.mkdir(parents=True, exist_ok=True)
    card = read_toml(trained_as / CARD).model_copy(update={"name": folder.name})
    module = copy.deepcopy(load_model(trained_as).module)
    last = [layer for layer in module.modules() if isinstance(layer, Heads)][-1]
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale)
    return load_model(save_model(module, card, folder / WEIGHTS), device=settings.device)


def _verdicts(found: list[Found], scaled: list[Attacked], n: int) -> list[str]:
    """Return which of paper B's findings stand, from the numbers above."""
    lines: list[str] = []
    for kind in ("l2nnn", "l2nnn-resnet"):
        for divide in (False, True):
            own = [one for one in found if one.kind == kind and one.paper.divide is divide]
            plain = max(one.attacked.pgd for one in own)
            free = max(one.attacked.pgd_free for one in own)
            radius = max(one.radius for one in own)
            lines.append(
                f"{kind} {'with' if divide else 'without'} dbc, the best of {len(own)}: {100 * plain:.1f} % under plain"
                f" PGD, {100 * free:.1f} % under scale-free PGD, median certified radius {radius:.3f}"
            )
    for scale, attacked in zip(SCALES, scaled, strict=True):
        lines.append(
            f"one network, logits times {scale:g}: {100 * attacked.pgd:.1f} % under plain PGD,"
            f" {100 * attacked.pgd_free:.1f} % under scale-free PGD"
        )
    lines.append(_masked(found, scaled))
    without, divided = ([one for one in found if one.paper.divide is divide] for divide in (False, True))
    withstands = max(one.attacked.pgd_free for one in without), max(one.attacked.pgd_free for one in divided)
    certified = max(one.radius for one in without), max(one.radius for one in divided)
    lines.append(
        "Paper B: without dbc a network withstands FGSM and PGD better. Here, under the scale-free attack,"
        f" {100 * withstands[0]:.1f} % without and {100 * withstands[1]:.1f} % with it: " + _stands(withstands, n)
    )
    lines.append(
        "Paper B: with dbc the certificate is larger. Here the best median radius is"
        f" {certified[0]:.3f} without and {certified[1]:.3f} with it: "
        + ("stands" if certified[1] > certified[0] else "does not stand")
    )
    return lines


def _stands(shares: tuple[float, float], n: int) -> str:
    """Return whether the first share is above the second by more than chance: exact 95 % intervals that do not meet."""
    (low, _), (_, high) = (interval(round(share * n), n) for share in shares)
    if low > high:
        return "stands"
    return "does not stand" if shares[0] <= shares[1] else f"does not stand ({n} images do not show a difference)"


def _masked(found: list[Found], scaled: list[Attacked]) -> str:
    """Return whether the scale of the logits decides what a plain cross-entropy reports."""
    differences = [one.attacked.pgd - one.attacked.pgd_free for one in found]
    small, _, large = (a.pgd - a.pgd_free for a in scaled)
    said = [
        f"{name} ({100 * difference:.1f} points above the scale-free attack)"
        for name, difference in (("too small", small), ("too large", large))
        if difference > 0.05
    ]
    what = " and logits ".join(said)
    return (
        f"The plain cross-entropy is at most {100 * max(differences):.1f} points above the scale-free objective in the"
        " networks as trained. "
        + (f"It fails on logits {what}." if said else "Multiplied logits do not mislead it either.")
    )
