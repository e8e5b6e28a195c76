"""`robcert gate`: a policy, a verdict, an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli import options as opt
from robcert.cli.flags import DataFlags, ModelFlags

_RUN, _START = "Run and output", "Starting"


def gate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Models instead of those of the policy.",
            show_default=False,
            autocompletion=completion.models,
        ),
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
    time_per_image: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="CPU seconds for the certificate of each image, never an average.",
            show_default="what the policy says, else 5",
        ),
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(
            help="Attacks end by then, e.g. 90s, 10m or 2h; --init measures within it.",
            show_default="what the policy says; --init: 2m",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Run every plan to its end, though the verdict is settled.")
    ] = False,
    output_format: Annotated[
        str,
        typer.Option("--format", help="console, json, markdown, junit, sarif, github or html.", rich_help_panel=_RUN),
    ] = "console",
    output: opt.Output = None,
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
    data_flags: DataFlags = DataFlags(),
    model_flags: ModelFlags = ModelFlags(),
    init: Annotated[
        bool,
        typer.Option(
            "--init",
            help="Measure MODEL within the budget and write a policy.",
            rich_help_panel=_START,
        ),
    ] = False,
    norm: Annotated[
        str, typer.Option(help="--init: l2, linf or l1.", rich_help_panel=_START, autocompletion=completion.norms)
    ] = "l2",
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
    from robcert.cli.parse import choice, duration
    from robcert.policy.load import DEFAULT, load_policy

    choice("--inconclusive", inconclusive, ["fail", "warn"])
    seconds = None if time_budget is None else duration("--time-budget", time_budget)
    if not init:
        load_policy(policy)  # a typo is said before torch is imported, which takes seconds

    from robcert.cli.gate_run import Wanted, entries, start
    from robcert.cli.inputs import choose_device
    from robcert.policy.evaluate import How
    from robcert.policy.evaluate import update_baseline as measure
    from robcert.policy.gate import gate as evaluate
    from robcert.reports.progress import console_reporter

    wanted = Wanted.parse(output_format, output, save or [])
    named = entries(models or [], model_flags)
    with console_reporter() as reporter:
        if init or update_baseline:
            how = How(
                device=choose_device(model_flags.device),
                data_dir=data_flags.data_dir,
                download=model_flags.download,
                runs=runs,
                batch_size=data_flags.batch_size,
                full=full,
                reporter=reporter,
            )
            if init:
                typer.echo(start(named, data_flags, norm, policy or Path(DEFAULT), how, seconds))
            else:
                source = load_policy(policy).instead(named, data_flags.class_order, time_per_image, seconds)
                typer.echo(f"Wrote {measure(source, how)}")
            return
        record = evaluate(
            policy,
            named,
            class_order=data_flags.class_order,
            device=model_flags.device,
            data_dir=data_flags.data_dir,
            download=model_flags.download,
            batch_size=data_flags.batch_size,
            runs=runs,
            time_per_image=time_per_image,
            time_budget=seconds,
            full=full,
            warn=inconclusive == "warn",
            reporter=reporter,
        )
        wanted.write(record)
    if not record.passed:
        raise typer.Exit(1)
