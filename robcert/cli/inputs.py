"""Models and data as the command line names them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from robcert.cli.flags import DataFlags, ModelFlags
from robcert.cli.notes import configured, say
from robcert.cli.parse import numbers, sizes
from robcert.data import datasets, fit_to, load_dataset
from robcert.errors import UsageError
from robcert.network import Card, load_model, peek_card, preparation_of
from robcert.preparation import Preparation, agreed
from robcert.types import UNIT, Dataset, LoadedModel


def facts(flags: ModelFlags) -> dict[str, Any]:
    """Return what the options say of a file, as the arguments of `robcert.load_model`; None where they do not say it.

    Raises:
        UsageError: a text is no list of sizes or of numbers.
    """
    return {
        "arch": flags.arch,
        "weights_key": flags.weights_key,
        "input_shape": None if flags.input_shape is None else sizes(flags.input_shape, "--input-shape"),
        "num_classes": flags.classes,
        "mean": None if flags.mean is None else numbers(flags.mean, "--mean"),
        "std": None if flags.std is None else numbers(flags.std, "--std"),
        "box": None if flags.box is None else ends(flags.box),
        "random_weights": flags.random_weights,
        "download": flags.download,
    }


def peek(reference: str, flags: ModelFlags) -> Card | None:
    """Return the card of a model without its weights, with what the options say in place of it.

    Raises:
        UsageError: there is no such model.
        EvaluationError: its files are missing or damaged.
    """
    given = facts(flags)
    return peek_card(reference, **{name: given[name] for name in ("arch", "input_shape", "random_weights", "download")})


def load_one(reference: str, flags: ModelFlags, **others: Any) -> LoadedModel:
    """Return a model on its device, with what was decided in reading it said on stderr.

    Args:
        reference: a file, or a name of the zoo or of a library.
        flags: what its file does not say.
        others: arguments of `robcert.load_model`.

    Raises:
        UsageError: something is missing or does not fit.
        EvaluationError: the file cannot be evaluated.
    """
    from robcert.network.card import names_code

    if configured("arch") and names_code(flags.arch):
        raise UsageError(
            f"a configuration file or the environment sets arch to {flags.arch!r}, which is Python code",
            f"Code is chosen on the command line: --arch {flags.arch}",
        )
    given: dict[str, Any] = {"device": choose_device(flags.device), **facts(flags), **others}
    try:
        model = load_model(reference, **given)
    except UsageError:
        if flags.weights_key is None or not configured("weights_key"):
            raise
        given["weights_key"] = None  # a configuration file speaks of other models too
        model = load_model(reference, **given)
    say(model.notes)
    return model


def ends(text: str) -> tuple[float, float]:
    """Return the ends of a box from "0,1".

    Raises:
        UsageError: it is no pair of rising numbers.
    """
    values = numbers(text, "--box")
    if len(values) != 2 or not values[0] < values[1]:
        raise UsageError(f"--box {text} is not a smallest and a largest value", "Example: --box=-1,1")
    return values[0], values[1]


def load_images(
    flags: DataFlags, download: bool, preparation: Preparation | None = None, box: tuple[float, float] = UNIT
) -> Dataset:
    """Return a data set, with what was decided in reading it said on stderr.

    Args:
        flags: which images.
        download: whether missing files may be downloaded.
        preparation: what the networks do to pictures.
        box: the smallest and the largest value of an entry.

    Raises:
        UsageError: it is unknown or has no name, or the class order does not fit.
        EvaluationError: it cannot be read.
    """
    if flags.data is None:
        raise UsageError("--data is missing", "`robcert data` lists what there is")
    order = flags.class_order
    if order is not None and configured("class_order") and not datasets.get(flags.data.partition(":")[0]).named:
        order = None
    images = load_dataset(
        flags.data,
        split=flags.split,
        n=flags.n,
        seed=flags.seed,
        data_dir=flags.data_dir,
        download=download,
        class_order=order,
        box=box,
        preparation=preparation,
    )
    say(images.notes)
    return images


def load_inputs(references: list[str], data: DataFlags, model: ModelFlags) -> tuple[list[LoadedModel], Dataset]:
    """Load data, then models for it; the data set is the one of the card where none is named.

    The images come back as the models take them; what was decided for that is said on stderr, once.

    Raises:
        UsageError: something is missing or does not fit; the message has a command that would work.
        EvaluationError: a file cannot be evaluated.
    """
    box: tuple[float, float] = facts(model)["box"] or UNIT
    where = choose_device(model.device)
    named = data if data.data else replace(data, data=_one_data_set(references, model))
    images = load_images(named, model.download, _preparation(references, named, model), box)
    likely = max(len(images.classes), 2)
    loaded = [
        load_one(reference, model, box=images.box, images=images.x, likely_classes=likely) for reference in references
    ]
    return loaded, fitted(images, loaded, where)


def load_by_card(
    references: list[str], data: DataFlags, model: ModelFlags, *, together: bool = False
) -> tuple[list[LoadedModel], list[Dataset]]:
    """Load models, each with the data that was named, or else with the data of its own card.

    Args:
        references: the models.
        data: which images; without a name every model has the data set of its card.
        model: what their files do not say.
        together: all models answer for the same images.

    Returns:
        The models, and the images of each.

    Raises:
        UsageError: something is missing or does not fit.
        EvaluationError: a file cannot be evaluated.
    """
    alike = data.data or together
    names = dict.fromkeys(references, data.data) if alike else data_of_cards(references, model)
    loaded: list[tuple[LoadedModel, Dataset]] = []
    for name in dict.fromkeys(names.values()):
        some = [reference for reference in references if names[reference] == name]
        models, images = load_inputs(some, replace(data, data=name), model)
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


def _preparation(references: list[str], data: DataFlags, flags: ModelFlags) -> Preparation | None:
    """Return what the models do to pictures and call their classes; None where the images are no files of pictures.

    Raises:
        UsageError: they do not agree.
    """
    if data.data is None or data.data.partition(":")[0] != "folder":
        return None
    return agreed([preparation_of(peek(reference, flags), Path(reference).name) for reference in references])


def data_of_cards(references: list[str], flags: ModelFlags = ModelFlags()) -> dict[str, str]:
    """Model -> the data set that its card names.

    Raises:
        UsageError: a model has no card, or the card names none.
    """
    named: dict[str, str] = {}
    for reference in references:
        card = peek(reference, flags)
        if card is None or not card.data:
            raise UsageError(
                f"{reference} has no card that names its data, so --data is missing",
                f"Example: robcert attack {reference} --arch torchvision:resnet18 "
                "--data npz:images.npz --norm l2 --eps 1.5",
            )
        named[reference] = card.data
    return named


def _one_data_set(references: list[str], flags: ModelFlags) -> str:
    named = data_of_cards(references, flags)
    if len(set(named.values())) > 1:
        listed = ", ".join(f"{reference} on {data}" for reference, data in named.items())
        raise UsageError(f"these models were trained on different data ({listed})", "Name one data set with --data")
    return next(iter(named.values()))


def load_for_norms(reference: str, flags: ModelFlags) -> LoadedModel:
    """A model without data: a file, a name, or a factory of the user's with the weights that it makes.

    Raises:
        UsageError: a name is unknown.
        EvaluationError: a file cannot be loaded.
    """
    from robcert.network.libraries import split

    if ":" in reference and split(reference) is None and not Path(reference).exists():
        import torch

        from robcert.network import from_module
        from robcert.network.architecture import build, default_shape
        from robcert.network.request import Request

        given = facts(flags)
        shape = given["input_shape"] or default_shape(reference) or (3, 32, 32)
        torch.manual_seed(0)
        module = build(Request(reference, shape, flags.classes))
        name, device = reference.partition(":")[2], choose_device(flags.device)
        given = {key: given[key] for key in ("mean", "std")} | {"box": given["box"] or UNIT}
        return from_module(module, shape, flags.classes, name=name, device=device, **given)
    return load_one(reference, flags)
