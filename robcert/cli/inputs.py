"""Models and data as the command line names them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robcert.cli.notes import configured, say
from robcert.cli.parse import numbers, sizes
from robcert.data import datasets, fit_to, load_dataset
from robcert.errors import UsageError
from robcert.network import load_model, peek_card
from robcert.types import Dataset, LoadedModel


@dataclass(frozen=True)
class Foreign:
    """Facts that a file without a card does not say: see `robcert.network.load_model`."""

    arch: str | None = None
    weights_key: str | None = None
    input_shape: tuple[int, ...] | None = None
    classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @staticmethod
    def parse(
        arch: str | None,
        weights_key: str | None,
        input_shape: str | None,
        classes: int | None,
        mean: str | None,
        std: str | None,
    ) -> Foreign:
        """From the texts of the options.

        Raises:
            UsageError: a text is no list of sizes or of numbers.
        """
        return Foreign(
            arch,
            weights_key,
            None if input_shape is None else sizes(input_shape, "--input-shape"),
            classes,
            None if mean is None else numbers(mean, "--mean"),
            None if std is None else numbers(std, "--std"),
        )

    def load(self, reference: str, **others: Any) -> LoadedModel:
        """The model, with what was decided in reading it said on stderr.

        Raises:
            UsageError: something is missing or does not fit.
            EvaluationError: the file cannot be evaluated.
        """
        from robcert.network.card import names_code

        if configured("arch") and names_code(self.arch):
            raise UsageError(
                f"a configuration file or the environment sets arch to {self.arch!r}, which is Python code",
                f"Code is chosen on the command line: --arch {self.arch}",
            )
        given: dict[str, Any] = {
            "arch": self.arch,
            "input_shape": self.input_shape,
            "num_classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            **others,
        }
        try:
            model = load_model(reference, weights_key=self.weights_key, **given)
        except UsageError:
            if self.weights_key is None or not configured("weights_key"):
                raise
            model = load_model(reference, **given)  # a configuration file speaks of other models too
        say(model.notes)
        return model


@dataclass(frozen=True)
class DataOptions:
    """A choice of images: see `robcert.load_dataset`; without a name those of the models' cards."""

    name: str | None
    split: str = "test"
    n: int | None = None
    seed: int = 0
    data_dir: Path | None = None
    download: bool = False
    class_order: Path | None = None

    def load(self) -> Dataset:
        """Return the data set, with what was decided in reading it said on stderr.

        Raises:
            UsageError: it is unknown or has no name, or the class order does not fit.
            EvaluationError: it cannot be read.
        """
        if self.name is None:
            raise UsageError("--data is missing", "`robcert data` lists what there is")
        order = self.class_order
        if order is not None and configured("class_order") and not datasets.get(self.name.partition(":")[0]).named:
            order = None
        images = load_dataset(
            self.name,
            split=self.split,
            n=self.n,
            seed=self.seed,
            data_dir=self.data_dir,
            download=self.download,
            class_order=order,
        )
        say(images.notes)
        return images


def load_inputs(
    references: list[str], data: DataOptions, foreign: Foreign, device: str = "cpu"
) -> tuple[list[LoadedModel], Dataset]:
    """Load data, then models for it; the data set is the one of the card where none is named.

    The images come back as the models take them; what was decided for that is said on stderr, once.

    Raises:
        UsageError: something is missing or does not fit; the message has a command that would work.
        EvaluationError: a file cannot be evaluated.
    """
    where = choose_device(device)
    images = (data if data.name else replace(data, name=_one_data_set(references))).load()
    likely = max(len(images.classes), 2)
    loaded = [
        foreign.load(reference, box=images.box, device=where, images=images.x, likely_classes=likely)
        for reference in references
    ]
    return loaded, fitted(images, loaded, where)


def load_by_card(
    references: list[str], data: DataOptions, foreign: Foreign, *, together: bool = False
) -> tuple[list[LoadedModel], list[Dataset]]:
    """Load models, each with the data that was named, or else with the data of its own card.

    Args:
        references: the models.
        data: which images; without a name every model has the data set of its card.
        foreign: what a file without a card does not say.
        together: all models answer for the same images.

    Returns:
        The models, and the images of each.

    Raises:
        UsageError: something is missing or does not fit.
        EvaluationError: a file cannot be evaluated.
    """
    alike = data.name or together
    names = dict.fromkeys(references, data.name) if alike else data_of_cards(references)
    loaded: list[tuple[LoadedModel, Dataset]] = []
    for name in dict.fromkeys(names.values()):
        some = [reference for reference in references if names[reference] == name]
        models, images = load_inputs(some, replace(data, name=name), foreign)
        loaded += [(model, images) for model in models]
    return [model for model, _ in loaded], [images for _, images in loaded]


def fitted(images: Dataset, models: list[LoadedModel], device: str) -> Dataset:
    """The images as the models take them, on their device; what was changed is said on stderr.

    Raises:
        UsageError: they cannot be given to the models.
    """
    images = fit_to(images, models)
    say(images.notes)
    return replace(images, x=images.x.to(device), y=images.y.to(device), index=images.index.to(device))


def choose_device(name: str) -> str:
    """The device of that name; "auto" is cuda where there is one.

    Raises:
        UsageError: torch has no such device here.
    """
    from robcert.network.device import usable_device

    return str(usable_device(name))


def data_of_cards(references: list[str]) -> dict[str, str]:
    """Model -> the data set that its card names.

    Raises:
        UsageError: a model has no card, or the card names none.
    """
    named: dict[str, str] = {}
    for reference in references:
        card = peek_card(reference)
        if card is None or not card.data:
            raise UsageError(
                f"{reference} has no card that names its data, so --data is missing",
                f"Example: robcert attack {reference} --arch torchvision:resnet18 "
                "--data npz:images.npz --norm l2 --eps 1.5",
            )
        named[reference] = card.data
    return named


def _one_data_set(references: list[str]) -> str:
    named = data_of_cards(references)
    if len(set(named.values())) > 1:
        listed = ", ".join(f"{reference} on {data}" for reference, data in named.items())
        raise UsageError(f"these models were trained on different data ({listed})", "Name one data set with --data")
    return next(iter(named.values()))


def load_for_norms(reference: str, foreign: Foreign) -> LoadedModel:
    """A model without data: a file, a zoo name, or an architecture with random weights ("torchvision:resnet18").

    Raises:
        UsageError: a name is unknown.
        EvaluationError: a file cannot be loaded.
    """
    if ":" in reference and not Path(reference).exists():
        import torch

        from robcert.network import from_module
        from robcert.network.architecture import Request, build, default_shape

        shape = foreign.input_shape or default_shape(reference) or (3, 32, 32)
        torch.manual_seed(0)
        module = build(Request(reference, shape, foreign.classes))
        name = reference.partition(":")[2]
        return from_module(module, shape, foreign.classes, name=name, mean=foreign.mean, std=foreign.std)
    return foreign.load(reference)
