"""Models and data as the command line names them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from robcert.data import load_dataset
from robcert.errors import UsageError
from robcert.network import load_model, peek_card
from robcert.types import Dataset, LoadedModel


@dataclass(frozen=True)
class Foreign:
    """What a file without a card does not say: see `robcert.network.load_model`."""

    arch: str | None = None
    input_shape: tuple[int, ...] | None = None
    classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def load_inputs(
    references: list[str],
    data: str | None,
    *,
    split: str,
    n: int | None,
    seed: int,
    data_dir: Path | None,
    download: bool,
    device: str,
    foreign: Foreign,
) -> tuple[list[LoadedModel], Dataset]:
    """Load data, then models for it; the data set is the one of the card where none is named.

    Raises:
        UsageError: something is missing or does not fit; the message has a command that would work.
        EvaluationError: a file cannot be evaluated.
    """
    where = choose_device(device)
    name = data or _one_data_set(references)
    images = load_dataset(name, split=split, n=n, seed=seed, data_dir=data_dir, download=download)
    loaded: list[LoadedModel] = []
    for reference in references:
        card = peek_card(reference)
        shape, classes = foreign.input_shape, foreign.classes
        if card is None or card.input_shape is None:
            shape = shape or images.shape
        if card is None or card.num_classes is None:
            classes = classes or max(len(images.classes), 2)
        loaded.append(
            load_model(
                reference,
                arch=foreign.arch,
                input_shape=shape,
                num_classes=classes,
                mean=foreign.mean,
                std=foreign.std,
                box=images.box,
                device=where,
                images=images.x[:16] if shape in (None, images.shape) else None,
            )
        )
    return loaded, replace(images, x=images.x.to(where), y=images.y.to(where), index=images.index.to(where))


def choose_device(name: str) -> str:
    """The device of that name; "auto" is cuda where there is one.

    Raises:
        UsageError: torch has no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device {name!r} cannot be used ({str(error).splitlines()[0]})", "Use --device cpu"
        ) from None
    return name


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


def load_for_norms(
    reference: str, arch: str | None, input_shape: tuple[int, ...] | None, classes: int | None
) -> LoadedModel:
    """A model without data: a file, a zoo name, or an architecture with random weights ("torchvision:resnet18").

    Raises:
        UsageError: a name is unknown.
        EvaluationError: a file cannot be loaded.
    """
    if ":" in reference and not Path(reference).exists():
        import torch

        from robcert.network import from_module
        from robcert.network.architecture import Request, build, default_shape

        shape = input_shape or default_shape(reference) or (3, 32, 32)
        torch.manual_seed(0)
        module = build(Request(reference, shape, classes))
        return from_module(module, shape, classes, name=reference.partition(":")[2])
    return load_model(reference, arch=arch, input_shape=input_shape, num_classes=classes)
