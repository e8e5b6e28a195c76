"""What there is to choose from: the zoo and the architectures, as data for a table."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass
from typing import Any

from robcert.network.card import Card, read_toml
from robcert.network.zoo import CARD, WEIGHTS, zoo_names, zoo_path

NATURAL = "natural_accuracy"
"""The entry of ``results`` that holds the share of unperturbed test images that a model gets right."""

OTHER_ARCHITECTURES = (
    ("torchvision:NAME", "a classifier of torchvision, e.g. --arch torchvision:resnet18"),
    ("package.module:factory", "your own, e.g. --arch mymodels:make_net for make_net() in ./mymodels.py"),
)


@dataclass(frozen=True)
class ZooEntry:
    """A model of the zoo: its card, the share of test images it gets right, its size in bytes."""

    name: str
    card: Card
    natural: float | None
    size: int
    path: str

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self) | {"card": self.card.dump()}


@dataclass(frozen=True)
class ArchitectureEntry:
    """A registered architecture: its options with their defaults, and the first line of its documentation."""

    name: str
    options: dict[str, str]
    summary: str

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def zoo() -> list[ZooEntry]:
    """The models of the zoo, sorted by name."""
    entries: list[ZooEntry] = []
    for name in zoo_names():
        folder = zoo_path(name)
        card = read_toml(folder / CARD)
        size = (folder / WEIGHTS).stat().st_size
        entries.append(ZooEntry(name, card, natural_accuracy(card), size, str(folder)))
    return entries


def natural_accuracy(card: Card) -> float | None:
    """The share of unperturbed test images that the card says the model gets right, or None."""
    value = card.results.get(NATURAL)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def architectures() -> list[ArchitectureEntry]:
    """The registered architectures, sorted by name."""
    from robcert.nn import architectures as registry

    entries: list[ArchitectureEntry] = []
    for name, factory in registry.items():
        options = {
            key: repr(parameter.default)
            for key, parameter in inspect.signature(factory).parameters.items()
            if key not in ("input_shape", "num_classes") and parameter.default is not inspect.Parameter.empty
        }
        summary = (inspect.getdoc(factory) or "").split("\n\n")[0].replace("\n", " ")
        entries.append(ArchitectureEntry(name, options, summary))
    return entries
