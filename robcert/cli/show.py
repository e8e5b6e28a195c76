"""`robcert show`: an image, its adversarial example and the difference, as in figures 3 to 5 of paper A."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    index: Annotated[
        str | None,
        typer.Option(help="Indices of images in their data set, e.g. 12 or 12,40.", show_default="the closest ten"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model of the run.", show_default="the first")] = None,
    output: Annotated[Path, typer.Option(help="The picture: .png, .svg or .pdf.")] = Path("adversarial.png"),
) -> None:
    """Draw original, difference and adversarial example, with labels and distance.

    Example: `robcert show runs/attack-digits-l2nnn-l2-0.5-1a2b3c4d --index 12 --output x.png`
    """
    from robcert.cli.parse import indices
    from robcert.reports.gallery import draw

    typer.echo(draw(run, model, None if index is None else list(indices(index, "--index")), output))
