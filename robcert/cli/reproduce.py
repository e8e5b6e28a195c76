"""`robcert reproduce`: a table of a paper, run again on the models of the zoo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robcert.cli import options as opt

if TYPE_CHECKING:
    from robcert.training import Epoch


def reproduce(
    table: Annotated[str | None, typer.Argument(help="Which table; without one, all are listed.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Test images: a stratified subset.")] = 1000,
    max_iterations: Annotated[
        str, typer.Option(help="The longest leg: 1k, 10k, 1M. Shorter ones of the table come before it.")
    ] = "1k",
    restarts: Annotated[int, typer.Option(min=1, help="Random restarts, as one more leg of that length.")] = 1,
    data: Annotated[str | None, typer.Option(help="Another data set.", show_default="the table's")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the subset and of all random starts.")] = 0,
    data_dir: opt.DataDir = None,
    download: opt.Download = False,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Only these columns, separated by commas; those of other models stay in --results as they were.",
            show_default="all",
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the run directories; the same command goes on.")] = Path("runs"),
    results: Annotated[
        Path | None, typer.Option(help="A markdown page in which the section of this table is written or replaced.")
    ] = None,
    output_format: Annotated[str, typer.Option("--format", help="console, json or markdown.")] = "console",
    output: opt.Output = None,
) -> None:
    """Print a table of a paper with the paper's numbers beside those of the zoo, and what differs.

    Every model is attacked in a run directory of its own, so an interrupted command goes on where it stopped,
    and a longer one begins anew only where its legs differ.

    Examples:

    `robcert reproduce l2nnn-table1 --n 1000 --max-iterations 10k`

    `robcert reproduce l2nnn-table4 --n 200 --results models/RESULTS.md`

    `robcert reproduce l2nnn-table1 --n 1000 --max-iterations 10k --models mnist-l2nnn --results models/RESULTS.md`
    """
    from robcert.cli.inputs import choose_device
    from robcert.cli.parse import write
    from robcert.reports import renderer_of
    from robcert.reports.progress import console_reporter
    from robcert.reproductions import ReproduceRecord, Settings, reproductions
    from robcert.reproductions import reproduce as run
    from robcert.reproductions.page import merged, write_section
    from robcert.runs.plan import parse_count

    if table is None:
        typer.echo("\n".join(f"{name}: {_summary(make.__doc__)}" for name, make in reproductions.items()))
        return
    render = renderer_of(ReproduceRecord, output_format)
    reproductions.get(table)
    longest = parse_count(max_iterations)
    where = choose_device(device)
    with console_reporter() as reporter:
        settings = Settings(
            n=n,
            max_iterations=longest,
            restarts=restarts,
            data=data,
            data_dir=data_dir,
            download=download,
            seed=seed,
            device=where,
            threads=threads,
            models=tuple(filter(None, (models or "").replace(" ", "").split(","))),
            runs=runs,
            reporter=reporter,
            trained=_tell_epochs,
        )
        record = run(table, settings)
    if results is not None:
        write_section(merged(record, results) if models else record, results)
    write(render(record), output)


def _tell_epochs(epoch: Epoch) -> None:
    """A line four times a training, on stderr."""
    if epoch.number % max(1, epoch.epochs // 4) == 0:
        typer.echo(
            f"training, epoch {epoch.number}/{epoch.epochs}: loss {epoch.loss:.4f}, accuracy"
            f" {100 * epoch.accuracy:.1f} %, average gap {epoch.mean_gap:.3f}",
            err=True,
        )


def _summary(documentation: str | None) -> str:
    return (documentation or "").split("\n")[0]
