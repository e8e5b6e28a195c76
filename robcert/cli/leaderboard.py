"""`robcert leaderboard`: models x threats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import options as opt


def leaderboard(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Directories of finished runs of attack and certify.")
    ],
    sort: Annotated[
        str, typer.Option(help="attacked, certified or natural; the largest eps counts first.")
    ] = "attacked",
    output_format: opt.ReportFormat = "console",
    output: opt.Output = None,
) -> None:
    """Rank models under the threats of stored runs: natural accuracy, and at each eps certified to attacked accuracy.

    There is a table for each norm and set of images. Runs of the same model are taken together: an image is broken if
    one run broke it, and certified if one run certified it.

    Example: `robcert leaderboard runs/attack-digits-plain-l2-0.5-1a2b3c4d runs/attack-digits-at-l2-0.5-5e6f7a8b`
    """
    from robcert.cli.parse import write
    from robcert.reports import renderer_of
    from robcert.runs.leaderboard import leaderboard as rank
    from robcert.runs.records.leaderboard import LeaderboardRecord

    render = renderer_of(LeaderboardRecord, output_format)
    write(render(rank(runs, sort=sort)), output)
