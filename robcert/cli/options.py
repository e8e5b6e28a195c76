"""Options that several commands share: which network, and which images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli.notes import note_source

_MODEL, _DATA = "Model", "Data"

Arch = Annotated[
    str | None,
    typer.Option(
        help="For a file of weights: a registered architecture, torchvision:NAME or package.module:factory.",
        rich_help_panel=_MODEL,
    ),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        callback=note_source,
        help="Which weights of a checkpoint that holds several, e.g. state_dict_ema or models.0.",
        rich_help_panel=_MODEL,
        show_default="those that were trained, not averaged",
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        help="For a foreign file, e.g. 3,32,32: images of other channels, or flat, are brought to it.",
        rich_help_panel=_MODEL,
        show_default="from the file, else that of the data",
    ),
]
Classes = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="For a foreign file: the number of classes that it must have.",
        rich_help_panel=_MODEL,
        show_default="from the file",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(help="Normalisation that the model expects, e.g. 0.485,0.456,0.406.", rich_help_panel=_MODEL),
]
Std = Annotated[str | None, typer.Option(help="Likewise, e.g. 0.229,0.224,0.225.", rich_help_panel=_MODEL)]
ClassOrder = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        callback=note_source,
        help="folder:PATH: the numbers of the classes: a folder name a line, or JSON, a list or {name: number}.",
        rich_help_panel=_DATA,
        show_default="by name; by value where all names are numbers",
    ),
]
