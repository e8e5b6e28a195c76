"""Options that several commands share: which network, which images, where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli.notes import note_source

_MODEL, _DATA, _RUN = "Model", "Data", "Run and output"

# Model

Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Zoo names or files, see `robcert models`.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A zoo name or a file, see `robcert models`.")]

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
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=_MODEL)]

# Data

DataName = Annotated[
    str | None,
    typer.Option(
        help="A data set (`robcert data`), npz:PATH or folder:PATH.",
        rich_help_panel=_DATA,
        show_default="what the model's card names",
    ),
]
Split = Annotated[str, typer.Option(help="test or train.", rich_help_panel=_DATA)]
Number = Annotated[
    int | None,
    typer.Option("--n", min=1, help="Images: a stratified subset.", rich_help_panel=_DATA, show_default="all"),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the subset.", rich_help_panel=_DATA)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder of the data sets.",
        rich_help_panel=_DATA,
        show_default="$ROBCERT_DATA, then ~/.cache/robcert",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Download missing data.", rich_help_panel=_DATA)]
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

# Threat

Norm = Annotated[str, typer.Option(help="l2, linf or l1; of an attack also another registered kind of threat.")]
AttackOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="ATTACK.OPTION=VALUE",
        help="Any option of an attack, e.g. cw.abort_early=false. Repeatable.",
        rich_help_panel="Attack",
    ),
]

# Run and output

Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads.", rich_help_panel=_RUN, show_default="whichever is faster"),
]
TaskThreads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads.", rich_help_panel=_RUN, show_default="those of torch")
]
Run = Annotated[
    Path | None,
    typer.Option(
        help="A run directory, in which the same command goes on.", rich_help_panel=_RUN, show_default="nothing is kept"
    ),
]
Format = Annotated[str, typer.Option("--format", help="console or json.", rich_help_panel=_RUN)]
ReportFormat = Annotated[str, typer.Option("--format", help="console, json, markdown or html.", rich_help_panel=_RUN)]
Output = Annotated[Path | None, typer.Option(help="A file instead of stdout.", rich_help_panel=_RUN)]
