"""`robcert detect`: reject images with a large gradient, and see who gets past."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli import options as opt
from robcert.cli.flags import DataFlags, ModelFlags

_THRESHOLD, _ATTACK = "Threshold", "Attack"


@dataclass(frozen=True)
class DetectData(DataFlags):
    """As of every command; the images that fix the threshold come beside those that are counted."""

    n: Annotated[
        int | None,
        typer.Option("--n", min=0, help="Clean images to test on.", show_default="all others", rich_help_panel="Data"),
    ] = None
    seed: opt.SeedOfStarts = 0


def detect(
    model: opt.Model,
    statistic: Annotated[
        str | None,
        typer.Option(
            help="What is measured: a statistic of `robcert jacobian`: spectral, frobenius, row, probability, margin, "
            "loss-l1, loss-l2, loss-linf.",
            show_default="probability",
            rich_help_panel=_THRESHOLD,
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option(help="The rate of false positives to aim at.", rich_help_panel=_THRESHOLD)
    ] = 0.05,
    calibration: Annotated[
        int, typer.Option(min=0, help="Clean images that fix the threshold.", rich_help_panel=_THRESHOLD)
    ] = 250,
    calibrate_on: Annotated[
        str,
        typer.Option(
            help="test: a part of the images, which is not tested on. train: training images that the model was not "
            "trained on.",
            rich_help_panel=_THRESHOLD,
        ),
    ] = "test",
    threshold_from: Annotated[
        str | None,
        typer.Option(help="card: what --store card kept; or a file.", rich_help_panel=_THRESHOLD),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="card: keep the threshold beside the model; or a file.", rich_help_panel=_THRESHOLD),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Screen the image files below this folder; exit code 1 if any is rejected."),
    ] = None,
    data_flags: DetectData = DetectData(),
    model_flags: ModelFlags = ModelFlags(),
    plan: Annotated[
        str | None,
        typer.Option(
            help="Attacks, attack:iterations[xrestarts]; l2.",
            rich_help_panel=_ATTACK,
            show_default="pgd:40,boundary:1k,cw:100,evasive-cw:100",
            autocompletion=completion.plans,
        ),
    ] = None,
    attacked: Annotated[
        int, typer.Option(min=1, help="Attack at most so many of the right test images.", rich_help_panel=_ATTACK)
    ] = 100,
    option: opt.AttackOptions = None,
    plot: Annotated[Path | None, typer.Option(help="Draw histograms and ROC curves (.svg, .png).")] = None,
    run: opt.Run = None,
    threads: opt.TaskThreads = None,
    output_format: opt.Format = "console",
    output: opt.Output = None,
) -> None:
    """Detect adversarial examples by the size of a gradient, and attack the detector too.

    The threshold is fixed on clean images. The table has the false positives on other clean images, and how many
    examples of each attack are detected. Attacks that know nothing of the detector are easy to detect; the row that
    counts is that of evasive-cw, which looks for examples that pass it. With --images nothing is attacked: the files
    are screened, for use in a pipeline.

    Examples:

    `robcert detect digits-plain`

    `robcert detect digits-plain --store detector.json --plan cw:100,evasive-cw:100 --plot detect.svg`

    `robcert detect digits-plain --threshold-from detector.json --images incoming`
    """
    from robcert.cli.inputs import choose_device, facts, fitted, load_images, load_inputs, load_one
    from robcert.cli.notes import say
    from robcert.cli.parse import attack_options, choice, write
    from robcert.errors import UsageError
    from robcert.preparation import Preparation
    from robcert.reports import renderer_of
    from robcert.reports.detection import draw_detection
    from robcert.reports.steps import steps
    from robcert.runs.detect import PLAN, fixed, screen, trials_of
    from robcert.runs.detect import detect as run_detection
    from robcert.runs.plan import parse_plan
    from robcert.runs.records.detect import DetectRecord, ScreenRecord
    from robcert.sensitivity.threshold import beside, check_statistic, read_threshold, write_threshold

    render = renderer_of(DetectRecord if images is None else ScreenRecord, output_format)
    plan = PLAN if plan is None else plan
    choice("split", calibrate_on, ("test", "train"))
    if calibrate_on == data_flags.split == "train" and threshold_from is None:
        raise UsageError("--calibrate-on train fixes the threshold on the images of --split train", "Leave out one.")
    if statistic is not None:
        check_statistic(statistic)
    options = attack_options(option or [], [leg.attack for leg in parse_plan(plan)], {})
    trials = trials_of(plan, options)
    facts(model_flags)  # refuses a text before anything is loaded
    n, seed = data_flags.n, data_flags.seed
    chosen = replace(data_flags, n=None)
    if images is not None and threshold_from is not None:
        loaded, test = load_one(model, model_flags), None
    else:
        (loaded,), test = load_inputs([model], chosen, model_flags)
    threshold = None
    if threshold_from is not None:
        place = beside(loaded) if threshold_from == "card" else Path(threshold_from)
        threshold = read_threshold(place, loaded, statistic)
    training = None
    if calibrate_on == "train" and threshold is None and test is not None:
        training = load_images(
            replace(chosen, data=test.name, split="train"),
            model_flags.download,
            Preparation(loaded.name, loaded.pipeline, loaded.labels),
            test.box,
        )
        training = fitted(training, [loaded], choose_device(model_flags.device))
    kept = None if store is None else beside(loaded) if store == "card" else Path(store)
    how = (statistic or "probability", rate, calibration, training, n, seed)
    if images is not None:
        if test is not None:
            threshold, _ = fixed(loaded, test, threshold, *how)
        assert threshold is not None
        if kept is not None:
            write_threshold(threshold, kept)
        screened, notes = screen(loaded, threshold, images)
        say(notes)
        write(render(screened), output)
        raise typer.Exit(1 if screened.rejected else 0)
    assert test is not None
    with steps("attacks", len(trials) * min(attacked, len(test) if n is None else n)) as advance:
        record = run_detection(
            loaded,
            test,
            plan,
            threshold=threshold,
            statistic=statistic or "probability",
            rate=rate,
            calibration=calibration,
            training=training,
            n=n,
            attacked=attacked,
            options=options,
            seed=seed,
            store=kept,
            run=run,
            batch_size=data_flags.batch_size,
            cpu_threads=threads,
            advance=advance,
            measured=lambda found: None if plot is None else draw_detection(found, plot),
        )
    write(render(record), output)
