"""Options that several commands share: which network, which images, where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli.notes import note_source

_MODEL, _DATA, _RUN = "Model", "Data", "Run and output"

# Model

Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Names or files, see `robcert models`.", autocompletion=completion.models),
]
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A name or a file, see `robcert models`.", autocompletion=completion.models),
]

Arch = Annotated[
    str | None,
    typer.Option(
        help="Of weights: `robcert architectures`, torchvision:NAME, module:factory.",
        autocompletion=completion.architectures,
        rich_help_panel=_MODEL,
    ),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        callback=note_source,
        help="Of several: models.0.",
        rich_help_panel=_MODEL,
        show_default="not averages",
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        help="Of one image: 3,32,32.",
        rich_help_panel=_MODEL,
        show_default="of file or data",
    ),
]
Classes = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="How many.",
        rich_help_panel=_MODEL,
        show_default="of the file",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(help="Of the normalisation: 0.485,0.456,0.406.", rich_help_panel=_MODEL),
]
Std = Annotated[str | None, typer.Option(help="Likewise: 0.229,0.224,0.225.", rich_help_panel=_MODEL)]
Box = Annotated[
    str | None,
    typer.Option(
        help="Range of an input: -1,1.",
        rich_help_panel=_MODEL,
        show_default="0,1",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1, ...",
        rich_help_panel=_MODEL,
        autocompletion=completion.among("auto", "cpu", "cuda"),
    ),
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="torchvision:NAME, timm:NAME without weights.", rich_help_panel=_MODEL)
]
DownloadAll = Annotated[
    bool, typer.Option("--download", help="Download missing weights and data.", rich_help_panel=_MODEL)
]

# Data

DataName = Annotated[
    str | None,
    typer.Option(
        help="A data set (`robcert data`), npz:PATH or folder:PATH.",
        autocompletion=completion.data_sets,
        rich_help_panel=_DATA,
        show_default="of the model's card",
    ),
]
Split = Annotated[
    str, typer.Option(help="test or train.", rich_help_panel=_DATA, autocompletion=completion.among("test", "train"))
]
Number = Annotated[
    int | None,
    typer.Option("--n", min=1, help="Images: a stratified subset.", rich_help_panel=_DATA, show_default="all"),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the subset.", rich_help_panel=_DATA)]
SeedOfStarts = Annotated[int, typer.Option(min=0, help="Of the subset and of random starts.", rich_help_panel=_DATA)]
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
        help="Of folders: a class a line, or JSON.",
        rich_help_panel=_DATA,
    ),
]

BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Most images at once.", rich_help_panel=_DATA, show_default="by their size"),
]

# Threat

Norm = Annotated[
    str, typer.Option(help="l2, linf, l1 (attacks: or a registered threat).", autocompletion=completion.norms)
]
AttackOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        help="ATTACK.OPTION=VALUE: cw.abort_early=false. Repeatable.",
        rich_help_panel="Rarely used",
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
    typer.Option(help="Its directory; the same command goes on.", rich_help_panel=_RUN, show_default="none"),
]
Format = Annotated[
    str,
    typer.Option(
        "--format", help="console or json.", rich_help_panel=_RUN, autocompletion=completion.among("console", "json")
    ),
]
ReportFormat = Annotated[
    str,
    typer.Option(
        "--format",
        help="console, json, markdown, html.",
        rich_help_panel=_RUN,
        autocompletion=completion.among("console", "json", "markdown", "html"),
    ),
]
Output = Annotated[Path | None, typer.Option(help="A file instead of stdout.", rich_help_panel=_RUN)]
