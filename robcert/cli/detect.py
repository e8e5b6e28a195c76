"""`robcert detect`: reject images with a large gradient, and see who gets past."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import options as opt

_DATA, _THRESHOLD, _ATTACK = "Data", "Threshold", "Attack"


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
            help="test: a part of the test images that is not tested on. train: training images that the model was "
            "not trained on.",
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
    data: opt.DataName = None,
    n: Annotated[
        int | None,
        typer.Option("--n", min=0, help="Clean test images.", show_default="all the others", rich_help_panel=_DATA),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the subsets and of random starts.", rich_help_panel=_DATA)
    ] = 0,
    data_dir: opt.DataDir = None,
    download: opt.Download = False,
    class_order: opt.ClassOrder = None,
    arch: opt.Arch = None,
    weights_key: opt.WeightsKey = None,
    input_shape: opt.InputShape = None,
    classes: opt.Classes = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    device: opt.Device = "auto",
    plan: Annotated[
        str | None,
        typer.Option(
            help="Attacks, attack:iterations[xrestarts]; l2.",
            rich_help_panel=_ATTACK,
            show_default="pgd:40,boundary:1k,cw:100,evasive-cw:100",
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
    from robcert.cli.inputs import DataOptions, Foreign, choose_device, fitted, load_inputs
    from robcert.cli.notes import say
    from robcert.cli.parse import attack_options, choice, write
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
    if statistic is not None:
        check_statistic(statistic)
    options = attack_options(option or [], [leg.attack for leg in parse_plan(plan)], {})
    trials = trials_of(plan, options)
    foreign = Foreign.parse(arch, weights_key, input_shape, classes, mean, std)
    chosen = DataOptions(data, "test", None, seed, data_dir, download, class_order)
    if images is not None and threshold_from is not None:
        loaded, test = foreign.load(model, device=choose_device(device)), None
    else:
        (loaded,), test = load_inputs([model], chosen, foreign, device)
    threshold = None
    if threshold_from is not None:
        place = beside(loaded) if threshold_from == "card" else Path(threshold_from)
        threshold = read_threshold(place, loaded, statistic)
    training = None
    if calibrate_on == "train" and threshold is None and test is not None:
        training = replace(chosen, name=test.name, split="train").load()
        training = fitted(training, [loaded], choose_device(device))
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
            cpu_threads=threads,
            advance=advance,
            measured=lambda found: None if plot is None else draw_detection(found, plot),
        )
    write(render(record), output)
