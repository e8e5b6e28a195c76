"""`robcert train`: a model from a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robcert.cli import options as opt

if TYPE_CHECKING:
    from rich.console import Console

    from robcert.training import Epoch


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe.toml, or the folder that holds one.")],
    output: Annotated[
        Path | None,
        typer.Option(
            help="A folder, or a file .safetensors, .pt or .pth with the card inside.",
            show_default="the recipe's folder",
        ),
    ] = None,
    data_dir: opt.DataDir = None,
    download: opt.Download = False,
    device: opt.Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="the recipe's")] = None,
) -> None:
    """Train a model from a recipe.

    The recipe decides everything: network, data, objective, schedule and seed. The same recipe on the same
    machine gives the same weights.

    Example: robcert train models/digits-l2nnn/recipe.toml --output my-l2nnn

    and then: robcert attack my-l2nnn --norm l2 --eps 0.5
    """
    from robcert.cli.notes import say
    from robcert.progress import hush
    from robcert.reports.display import stderr
    from robcert.training import read_recipe
    from robcert.training import train as train_model

    trained = train_model(
        recipe,
        output=output,
        data_dir=data_dir,
        download=download,
        device=device,
        threads=threads,
        report=_reporter(stderr(), read_recipe(recipe).epochs),
        tell=lambda note: say([note]),
    )
    hush()
    _print_card(trained.card.dump(), trained.path)


def _reporter(console: Console, epochs: int) -> Callable[[Epoch], None]:
    """Return what tells an epoch: a line, about ten times a training."""
    every = max(1, epochs // 10)

    def line(epoch: Epoch) -> None:
        if epoch.number % every == 0 or epoch.number == epochs:
            console.print(f"epoch {epoch.number}/{epochs}: {_numbers(epoch)}", highlight=False, soft_wrap=True)

    return line


def _numbers(epoch: Epoch) -> str:
    numbers = f"loss {epoch.loss:.4f}, accuracy {100 * epoch.accuracy:.1f} %, average gap {epoch.mean_gap:.3f}"
    return numbers if epoch.held_out_loss is None else f"{numbers}, held-out loss {epoch.held_out_loss:.4f}"


def _print_card(card: dict[str, object], path: Path) -> None:
    """The card as a table on stdout: what the model is, what was measured, how to go on."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(card["name"]), show_header=False, title_justify="left")
    for key in ("description", "architecture", "options", "input_shape", "num_classes", "data"):
        if key in card:
            table.add_row(key.replace("_", " "), str(card[key]))
    results = card.get("results")
    if isinstance(results, dict):
        for key, value in results.items():
            table.add_row(str(key).replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
    table.add_row("written to", str(path))
    console = Console()
    console.print(table)
    from robcert.network.card import names_code

    architecture = str(card.get("architecture"))
    arch = f" --arch {architecture}" if names_code(architecture) else ""
    console.print(f"Next: robcert attack {path}{arch} --norm l2 --eps 0.5", highlight=False, soft_wrap=True)
