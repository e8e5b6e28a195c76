"""The two sets of options that commands share: what a file does not say of its network, and which images are taken.

A command takes a set as one parameter, whose default holds the defaults of the options:

    def jacobian(models: opt.Models, model_flags: ModelFlags = ModelFlags(), data_flags: DataFlags = DataFlags()): ...

`spread` makes an option of each field, so that a field that is added here is an option of every command of the set.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, get_type_hints

from robcert.cli import options as opt


class FlagSet:
    """A frozen dataclass of options: each field is annotated with a `typer.Option`."""


@dataclass(frozen=True)
class ModelFlags(FlagSet):
    """What the file of a network does not say, how the files of a name come here, and where the network runs."""

    arch: opt.Arch = None
    weights_key: opt.WeightsKey = None
    input_shape: opt.InputShape = None
    classes: opt.Classes = None
    mean: opt.Mean = None
    std: opt.Std = None
    box: opt.Box = None
    device: opt.Device = "auto"
    random_weights: opt.RandomWeights = False
    download: opt.DownloadAll = False


@dataclass(frozen=True)
class DataFlags(FlagSet):
    """A choice of images: see `robcert.load_dataset`; without a name those of the models' cards."""

    data: opt.DataName = None
    split: opt.Split = "test"
    n: opt.Number = None
    seed: opt.Seed = 0
    data_dir: opt.DataDir = None
    class_order: opt.ClassOrder = None
    batch_size: opt.BatchSize = None


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose sets of options are options of its own, in their place.

    Args:
        command: its parameters whose default is a `FlagSet` are replaced by an option for each field.
    """
    hints = get_type_hints(command, include_extras=True)
    sets: dict[str, type[FlagSet]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if isinstance(parameter.default, FlagSet):
            sets[parameter.name] = type(parameter.default)
            parameters += _options(parameter.default)
        else:
            parameters.append(_option(parameter.name, parameter.default, hints[parameter.name]))

    @wraps(command)
    def spread_command(**given: Any) -> None:
        gathered = {name: kind(**{field: given.pop(field) for field in names_of(kind)}) for name, kind in sets.items()}
        command(**given, **gathered)

    spread_command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    spread_command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread_command


def names_of(kind: type[FlagSet]) -> list[str]:
    """Return the parameters of a set, in order."""
    return [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]


def _options(defaults: FlagSet) -> list[inspect.Parameter]:
    hints = get_type_hints(type(defaults), include_extras=True)
    return [_option(name, getattr(defaults, name), hints[name]) for name in names_of(type(defaults))]


def _option(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
