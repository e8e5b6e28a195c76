"""Distance preservation: what paper A's layers keep of the distance of two inputs, beside the ordinary ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robcert.nn.activations import ScaledSigmoid, TwoSided, TwoSidedReLU
from robcert.nn.pooling import NormPool2d
from robcert.reproductions import reproduction
from robcert.reproductions.record import Cell, Column, ReproduceRecord, Table
from robcert.reproductions.settings import Settings

ENTRIES = 64
SIDE = 8

NONLINEAR: dict[str, nn.Module] = {
    "ReLU": nn.ReLU(),
    "two-sided ReLU": TwoSidedReLU(),
    "tanh": nn.Tanh(),
    "two-sided tanh": TwoSided(nn.Tanh()),
    "sigmoid": nn.Sigmoid(),
    "scaled sigmoid, t = 4": ScaledSigmoid(ENTRIES),
    "two-sided scaled sigmoid, t = 4": TwoSided(ScaledSigmoid(ENTRIES)),
}
POOLING: dict[str, nn.Module] = {"max-pooling 2x2": nn.MaxPool2d(2), "norm-pooling 2x2": NormPool2d(2)}


@reproduction(
    "l2nnn-distance",
    *("max_iterations", "restarts", "data", "data_dir", "download", "device", "threads", "models", "runs"),
)
def l2nnn_distance(settings: Settings) -> ReproduceRecord:
    """L2 distances behind layers of L2-Nonexpansive Neural Networks, on --n random pairs."""
    settings.without_models("l2nnn-distance")
    generator = torch.Generator().manual_seed(settings.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(settings.n, *shape, generator=generator, dtype=torch.float64)

    vectors = normal(ENTRIES), normal(ENTRIES)
    negative = -normal(ENTRIES).abs(), -normal(ENTRIES).abs()
    images = normal(1, SIDE, SIDE), normal(1, SIDE, SIDE)
    # An edge that passes a window, and nothing there (section 2.3).
    edges = normal(1, SIDE, SIDE).abs(), torch.zeros(settings.n, 1, SIDE, SIDE, dtype=torch.float64)
    tables = [
        _table(f"Nonlinearities, {ENTRIES} entries", NONLINEAR, {"normal": vectors, "all negative": negative}),
        _table(f"Pooling, {SIDE} x {SIDE} entries", POOLING, {"normal": images, "positive and zero": edges}),
    ]
    return ReproduceRecord(
        name="l2nnn-distance",
        title="Paper A, sections 2.2, 2.3 and A.2: the l2 distance behind a layer over the distance in front of it",
        command=f"robcert reproduce l2nnn-distance --n {settings.n} --seed {settings.seed}",
        tables=tables,
        differences=["The paper argues with examples and has no such table."],
        verdicts=_verdicts(tables),
        runs=[],
    )


@torch.no_grad()
def _table(title: str, layers: dict[str, nn.Module], pairs: dict[str, tuple[Tensor, Tensor]]) -> Table:
    columns = [Column(name="layer", source="label", kind="text")]
    for kind in pairs:
        columns += [Column(name=f"{kind}: {which}", kind="number") for which in ("smallest", "median", "largest")]
    rows: list[list[Cell]] = []
    for name, layer in layers.items():
        row: list[Cell] = [name]
        for one, other in pairs.values():
            kept = ratios(layer.double(), one, other)
            row += [float(kept.min()), float(kept.median()), float(kept.max())]
        rows.append(row)
    return Table(title=title, columns=columns, rows=rows)


def ratios(layer: nn.Module, one: Tensor, other: Tensor) -> Tensor:
    """||layer(x) - layer(z)||_2 / ||x - z||_2 for each pair: (n, ...), (n, ...) -> (n,)."""
    before = (one - other).flatten(1).norm(dim=1)
    return (layer(one) - layer(other)).flatten(1).norm(dim=1) / before


def _verdicts(tables: list[Table]) -> list[str]:
    smallest = {str(row[0]): min(float(row[i] or 0.0) for i in (1, 4)) for table in tables for row in table.rows}
    return [
        f"{one} keeps {smallest[one]:.3f} of a distance or more, {other} {smallest[other]:.3f}"
        for one, other in (
            ("two-sided ReLU", "ReLU"),
            ("two-sided tanh", "tanh"),
            ("two-sided scaled sigmoid, t = 4", "sigmoid"),
            ("norm-pooling 2x2", "max-pooling 2x2"),
        )
    ]
