"""`robcert attack`: the main job."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli import options as opt
from robcert.cli.flags import DataFlags, ModelFlags
from robcert.errors import UsageError

_ATTACK, _RUN, _RARE = "Attack", "Run and output", "Rarely used"


def _moved(vnnlib: Path | None) -> Path | None:
    """Name the command of an option that was one of this, whatever else the call lacks."""
    if vnnlib is not None:
        raise UsageError("--vnnlib is a command of its own now", f"Write: robcert verify MODEL {vnnlib}")
    return vnnlib


@dataclass(frozen=True)
class AttackData(DataFlags):
    """As of every command, with another number of images; the seed is that of random starts too."""

    n: Annotated[int, typer.Option("--n", min=1, help="Images: a stratified subset.", rich_help_panel="Data")] = 500
    seed: opt.SeedOfStarts = 0


def attack(
    models: opt.Models,
    eps: Annotated[
        str | None,
        typer.Option(help="The budget; several with commas; 8/255 works."),
    ] = None,
    norm: opt.Norm = "l2",
    data_flags: AttackData = AttackData(),
    model_flags: ModelFlags = ModelFlags(),
    plan: Annotated[
        str | None,
        typer.Option(
            help="Legs, attack:iterations[xrestarts], e.g. cw:100,1k,10k,pgd:100x5; or autoattack, strong, fast.",
            rich_help_panel=_ATTACK,
            show_default="cw:100,1k,pgd:100x5",
            autocompletion=completion.plans,
        ),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="One attack for all legs (`robcert attacks`).",
            rich_help_panel=_ATTACK,
            autocompletion=completion.attacks,
        ),
    ] = None,
    iterations: Annotated[
        str | None,
        typer.Option(help="A rising sweep: 100,1k,10k,100k,1M.", rich_help_panel=_ATTACK),
    ] = None,
    restarts: Annotated[int, typer.Option(min=1, help="Random restarts of each leg.", rich_help_panel=_ATTACK)] = 1,
    goal: Annotated[
        str | None,
        typer.Option(
            help="decide: an image ends at its first example; minimize: go on.",
            rich_help_panel=_ATTACK,
            show_default="decide, with several eps minimize",
            autocompletion=completion.among("decide", "minimize"),
        ),
    ] = None,
    certify: Annotated[
        str,
        typer.Option(
            help="What is certified first, or none.",
            autocompletion=completion.certificates,
            rich_help_panel=_ATTACK,
        ),
    ] = "gap",
    time_per_image: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="CPU seconds a certificate.",
            rich_help_panel=_ATTACK,
        ),
    ] = 5.0,
    step: Annotated[
        float | None,
        typer.Option(help="pgd: step length over eps.", rich_help_panel=_RARE, show_default="falling"),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="The loss that pgd, apgd, ddn, fgsm climb: {robcert.attacks.losses:loss}.",
            rich_help_panel=_RARE,
            show_default="by attack",
        ),
    ] = None,
    search_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="cw: values of c; pgd with minimize: budgets tried.",
            rich_help_panel=_RARE,
            show_default="by attack",
        ),
    ] = None,
    option: opt.AttackOptions = None,
    flat: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            rich_help_panel=_RARE,
            help="Share that ten times the iterations may break in a flat sweep.",
        ),
    ] = 0.01,
    until: Annotated[
        str | None,
        typer.Option(help="flat: lengthen the sweep until it is.", rich_help_panel=_ATTACK, show_default=False),
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(help="End by then: 90s, 10m, 2h.", rich_help_panel=_ATTACK, show_default=False),
    ] = None,
    eot: Annotated[
        int,
        typer.Option(min=1, help="Draws of a random model.", rich_help_panel=_RARE),
    ] = 1,
    threads: opt.Threads = None,
    search_precision: Annotated[
        str,
        typer.Option(
            help="float32 (with --threads the same bits in every run), bfloat16, or auto.",
            rich_help_panel=_RARE,
        ),
    ] = "auto",
    verify_with: Annotated[
        str | None,
        typer.Option(
            help="onnxruntime: do examples fool it too?",
            rich_help_panel=_RARE,
        ),
    ] = None,
    vnnlib: Annotated[Path | None, typer.Option(hidden=True, callback=_moved)] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Its directory; the same command goes on.",
            rich_help_panel=_RUN,
            show_default="below runs/",
        ),
    ] = None,
    checkpoint: Annotated[
        float, typer.Option(min=0.0, help="Seconds between checkpoints.", rich_help_panel=_RARE)
    ] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will cost.", rich_help_panel=_RUN)] = False,
    output_format: opt.ReportFormat = "console",
    output: opt.Output = None,
) -> None:
    """Attack models until more iterations no longer help, and verify every example.

    Each leg attacks only what the legs before it left open; a row of the table is the accuracy that is left.
    Under the table: whether the sweep is flat or still falling.

    Examples: `robcert attack digits-l2nnn --norm l2 --eps 0.5`

    `robcert attack model.pt --arch torchvision:resnet18 --data npz:images.npz --norm linf --eps 8/255`
    """
    from robcert.accel.precision import PRECISIONS
    from robcert.cli.inputs import choose_device, facts, load_inputs
    from robcert.cli.notes import say
    from robcert.cli.parse import attack_options, choice, duration, numbers, write
    from robcert.errors import RobcertError
    from robcert.reports import renderer_of
    from robcert.reports.progress import console_reporter
    from robcert.runs.api import attack as run_attack
    from robcert.runs.plan import chosen_plan, default_plan
    from robcert.runs.record import UNTIL, RunRecord
    from robcert.runs.records.estimate import EstimateRecord
    from robcert.threats import threats
    from robcert.types import GOALS, Threat

    threats.get(norm)
    goal = None if goal is None else choice("goal", goal, GOALS)
    search_precision = choice("search precision", search_precision, PRECISIONS)
    choice("runtime", verify_with or "onnxruntime", ["onnxruntime"])
    facts(model_flags)  # refuses a text before anything is loaded
    del vnnlib  # refused when it is read
    assert eps is not None  # robcert.cli.missing
    render = renderer_of(EstimateRecord if dry_run else RunRecord, output_format)
    lengthened = None if until is None else choice("end of a sweep", until, UNTIL)
    budget = None if time_budget is None else duration("--time-budget", time_budget)
    budgets = numbers(eps, "--eps")
    Threat(norm, budgets)  # refuses what is no budget before anything is loaded
    legs = chosen_plan(norm, plan, attack, iterations, restarts)
    options = attack_options(
        option or [],
        [leg.attack for leg in legs or default_plan(norm)],
        {"step_size": step, "objective": objective, "search_steps": search_steps},
    )
    loaded, images = load_inputs(models, data_flags, model_flags)
    threat = Threat(norm, budgets, images.box)
    say([threat.too_wide(images.shape)])
    if eot > 1 and not any("model is random" in warning for model in loaded for warning in model.warnings):
        say([f"--eot {eot} averages the draws of random models; two calls of these models gave the same logits"])
    if dry_run:
        from robcert.runs.api import estimate

        told = estimate(
            loaded,
            images,
            threat,
            legs,
            goal=goal,
            certify=certify,
            time_per_image=time_per_image,
            seed=data_flags.seed,
            options=options,
            eot=eot,
            batch_size=data_flags.batch_size,
            cpu_threads=threads,
            search_precision=search_precision,
            kept=True,
            loading=time.process_time(),
        )
        write(render(told), output)
        return
    with console_reporter() as reporter:
        record = run_attack(
            loaded,
            images,
            threat,
            legs,
            goal=goal,
            certify=certify,
            time_per_image=time_per_image,
            seed=data_flags.seed,
            options=options,
            flat=flat,
            until=lengthened,
            time_budget=budget,
            eot=eot,
            run=run,
            runs=None if run is not None else Path("runs"),
            reporter=reporter,
            batch_size=data_flags.batch_size,
            cpu_threads=threads,
            checkpoint_seconds=checkpoint,
            search_precision=search_precision,
        )
    if verify_with is not None:
        from robcert.runs.deployed import verify

        try:
            record = verify(record, loaded, choose_device(model_flags.device))
        except RobcertError:
            write(render(record), output)  # the attack has been paid for, whatever another runtime says
            raise
    write(render(record), output)
