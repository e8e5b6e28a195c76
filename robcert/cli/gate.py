"""`robcert gate`: a policy, a verdict, an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli.options import Arch, Classes, ClassOrder, InputShape, Mean, Std, WeightsKey

_RUN, _START = "Run and output", "Starting"


def gate(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Models instead of those of the policy.", show_default=False),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="The policy.", show_default="robcert.toml with [gate], else pyproject.toml with [tool.robcert.gate]"
        ),
    ] = None,
    inconclusive: Annotated[
        str, typer.Option(help="What an inconclusive verdict is: fail (exit 1) or warn (exit 0).")
    ] = "fail",
    full: Annotated[
        bool, typer.Option("--full", help="Run every plan to its end, though the verdict is settled.")
    ] = False,
    output_format: Annotated[
        str,
        typer.Option("--format", help="console, json, markdown, junit, sarif, github or html.", rich_help_panel=_RUN),
    ] = "console",
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.", rich_help_panel=_RUN)] = None,
    save: Annotated[
        list[str] | None,
        typer.Option(
            "--save",
            metavar="FORMAT=FILE",
            help="Another format into a file beside, e.g. junit=robcert.xml. Repeatable.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    runs: Annotated[
        Path, typer.Option(help="Where runs of attacks are kept; the same gate goes on there.", rich_help_panel=_RUN)
    ] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...", rich_help_panel=_RUN)] = "auto",
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the data sets.",
            rich_help_panel=_RUN,
            show_default="$ROBCERT_DATA, then ~/.cache/robcert",
        ),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing data.", rich_help_panel=_RUN)] = False,
    class_order: ClassOrder = None,
    arch: Arch = None,
    weights_key: WeightsKey = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    init: Annotated[
        bool, typer.Option("--init", help="Measure MODEL quickly and write a policy for it.", rich_help_panel=_START)
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="--init: the data.", rich_help_panel=_START, show_default="what the card names"),
    ] = None,
    norm: Annotated[str, typer.Option(help="--init: l2, linf or l1.", rich_help_panel=_START)] = "l2",
    update_baseline: Annotated[
        bool,
        typer.Option(
            "--update-baseline",
            help="Measure what stands now and write the baseline that drops are measured against.",
            rich_help_panel=_START,
        ),
    ] = False,
) -> None:
    """Check models against a policy, and say so with an exit code: the robustness test of a CI.

    Every requirement is *proven* (certified images alone reach it), *failed* (broken images alone exclude it),
    *empirical* (the attacks ran to the end of their plan and it still holds) or *inconclusive* (so many images cannot
    decide it at the asked confidence). Certificates come first, then the cheapest attacks; an evaluation ends as soon
    as its verdict cannot change. On a sample of the data all bounds are exact (Clopper-Pearson).

    Exit codes: 0 everything holds; 1 something failed or is inconclusive; 2 the policy is wrong; 3 it could not be
    evaluated.

    Examples:

    `robcert gate --init digits-l2nnn`

    `robcert gate --policy robcert.toml --save junit=robcert.xml --save sarif=robcert.sarif`

    `robcert gate --update-baseline`
    """
    from rich.console import Console

    from robcert.cli.gate_run import Wanted, check, entries, start
    from robcert.cli.inputs import Foreign, choose_device
    from robcert.errors import UsageError, did_you_mean
    from robcert.policy.evaluate import How
    from robcert.policy.evaluate import update_baseline as measure
    from robcert.policy.load import DEFAULT, load_policy
    from robcert.reports.progress import ConsoleReporter

    if inconclusive not in ("fail", "warn"):
        raise UsageError(f"unknown --inconclusive {inconclusive!r}", did_you_mean(inconclusive, ["fail", "warn"]))
    wanted = Wanted.parse(output_format, output, save or [])
    named = entries(models or [], Foreign.parse(arch, weights_key, input_shape, classes, mean, std))
    with ConsoleReporter(Console(stderr=True, emoji=False, markup=False)) as reporter:
        how = How(
            device=choose_device(device),
            data_dir=data_dir,
            download=download,
            runs=runs,
            full=full,
            warn=inconclusive == "warn",
            reporter=reporter,
        )
        if init:
            typer.echo(start(named, data, norm, policy or Path(DEFAULT), how, class_order))
            return
        source = load_policy(policy).instead(named, class_order)
        if update_baseline:
            typer.echo(f"Wrote {measure(source, how)}")
            return
        passed = check(source, how, wanted)
    if not passed:
        raise typer.Exit(1)
