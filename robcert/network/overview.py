"""The models of the zoo and the architectures, as data for a table."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from robcert.network.card import Card, read_toml
from robcert.network.zoo import CARD, WEIGHTS, zoo_names, zoo_path

NATURAL = "natural_accuracy"
"""The entry of ``results`` that holds the share of unperturbed test images that a model gets right."""

NAMES = (
    ("torchvision:NAME@WEIGHTS", "torchvision:resnet50@IMAGENET1K_V2", ""),
    ("timm:NAME", "timm:resnet50.a1_in1k", 'pip install "robcert[timm]"'),
    ("hf:ORG/REPO", "hf:microsoft/resnet-50", 'pip install "robcert[hf]"'),
    ("FOLDER", "a folder that save_pretrained of transformers, or save_for_hf of timm, wrote", ""),
    ("FILE", "model.safetensors, model.pt2, model.onnx, TorchScript; model.pt --arch NAME", ""),
)
"""Other models than those of the zoo: the form of a name, an example, what it needs."""

OTHER_ARCHITECTURES = (
    ("torchvision:NAME", "a classifier of torchvision, e.g. --arch torchvision:resnet18"),
    ("timm:NAME", "a classifier of timm, e.g. --arch timm:resnet50.a1_in1k"),
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
    """Return the models of the zoo, sorted by name."""
    entries: list[ZooEntry] = []
    for name in zoo_names():
        folder = zoo_path(name)
        card = read_toml(folder / CARD)
        size = (folder / WEIGHTS).stat().st_size
        entries.append(ZooEntry(name, card, natural_accuracy(card), size, str(folder)))
    return entries


def natural_accuracy(card: Card) -> float | None:
    """Return the share of unperturbed test images that the card says the model gets right, or None."""
    value = card.results.get(NATURAL)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def architectures() -> list[ArchitectureEntry]:
    """Return the registered architectures, sorted by name; those of robcert are read from its source, without torch."""
    entries = [_written(name, function) for name, function in _decorated(Path(__file__).parents[1] / "nn")]
    for point in entry_points(group="robcert.nn"):
        factory = point.load()
        defaults = {key: repr(one.default) for key, one in inspect.signature(factory).parameters.items()
                    if one.default is not inspect.Parameter.empty}  # fmt: skip
        entries.append(_entry(point.name, defaults, inspect.getdoc(factory)))
    return sorted(entries, key=lambda entry: entry.name)


def _decorated(folder: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions under ``@architecture("NAME")`` in the modules of a folder."""
    for path in folder.rglob("*.py"):
        functions = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
        for function in functions:
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "architecture":
                    yield ast.literal_eval(decorator.args[0]), function


def _written(name: str, function: ast.FunctionDef) -> ArchitectureEntry:
    given = function.args
    last = given.args[len(given.args) - len(given.defaults) :]
    defaults = dict(zip(last, given.defaults, strict=True)) | dict(
        zip(given.kwonlyargs, given.kw_defaults, strict=True)
    )
    texts = {one.arg: ast.unparse(default) for one, default in defaults.items() if default is not None}
    return _entry(name, texts, ast.get_docstring(function))


def _entry(name: str, defaults: dict[str, str], documentation: str | None) -> ArchitectureEntry:
    options = {key: text for key, text in defaults.items() if key not in ("input_shape", "num_classes")}
    return ArchitectureEntry(name, options, (documentation or "").split("\n\n")[0].replace("\n", " "))
