"""`robcert detect`: reject images with a large gradient, and see who gets past."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robcert.cli.options import Arch, Classes, ClassOrder, InputShape, Mean, Std, WeightsKey

if TYPE_CHECKING:
    from robcert.sensitivity.threshold import Threshold
    from robcert.types import Dataset, LoadedModel

PLAN = "pgd:40,boundary:1k,cw:100,evasive-cw:100"
_DATA, _THRESHOLD, _ATTACK = "Data", "Threshold", "Attack"


def detect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A zoo name or a file, see `robcert models`.")],
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
    data: Annotated[
        str | None,
        typer.Option(help="See `robcert data`.", show_default="what the card names", rich_help_panel=_DATA),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", min=0, help="Clean test images.", show_default="all the others", rich_help_panel=_DATA),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the subsets and of random starts.", rich_help_panel=_DATA)
    ] = 0,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the data sets.",
            show_default="$ROBCERT_DATA, then ~/.cache/robcert",
            rich_help_panel=_DATA,
        ),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing data.", rich_help_panel=_DATA)] = False,
    class_order: ClassOrder = None,
    arch: Arch = None,
    weights_key: WeightsKey = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    plan: Annotated[
        str, typer.Option(help="Attacks, attack:iterations[xrestarts]; l2.", rich_help_panel=_ATTACK)
    ] = PLAN,
    attacked: Annotated[
        int, typer.Option(min=1, help="Attack at most so many of the right test images.", rich_help_panel=_ATTACK)
    ] = 100,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", metavar="ATTACK.OPTION=VALUE", help="Any option of an attack.", rich_help_panel=_ATTACK
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw histograms and ROC curves (.svg, .png).")] = None,
    output_format: Annotated[str, typer.Option("--format", help="console or json.")] = "console",
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
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
    import io

    from rich.console import Console

    from robcert.cli.inputs import Foreign, choose_device, fitted, load_images, load_inputs
    from robcert.cli.notes import say
    from robcert.cli.parse import attack_options, write
    from robcert.errors import UsageError, did_you_mean
    from robcert.reports.detection import detect_record, draw_detection, render_detect, render_screen, screen_record
    from robcert.reports.steps import steps
    from robcert.runs.plan import build, parse_plan
    from robcert.sensitivity.detection import Trial, screen
    from robcert.sensitivity.detection import detect as run_detection
    from robcert.sensitivity.threshold import beside, check_statistic, read_threshold, write_threshold

    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    if calibrate_on not in ("test", "train"):
        raise UsageError(f"unknown split {calibrate_on!r}", did_you_mean(calibrate_on, ["test", "train"]))
    if statistic is not None:
        check_statistic(statistic)
    legs = parse_plan(plan)
    options = attack_options(option or [], [leg.attack for leg in legs], {})
    trials = [Trial(str(leg), build(leg, "l2", options), leg.restarts) for leg in legs]
    foreign = Foreign.parse(arch, weights_key, input_shape, classes, mean, std)
    if images is not None and threshold_from is not None:
        loaded, test = foreign.load(model, device=choose_device(device)), None
    else:
        (loaded,), test = load_inputs(
            [model],
            data,
            split="test",
            n=None,
            seed=seed,
            data_dir=data_dir,
            download=download,
            device=device,
            foreign=foreign,
            class_order=class_order,
        )
    if threshold_from is not None:
        place = beside(loaded) if threshold_from == "card" else Path(threshold_from)
        threshold = read_threshold(place, loaded, statistic)
        if test is not None:
            test = _untouched(test, threshold, n)
    else:
        assert test is not None
        training = None
        if calibrate_on == "train":
            training = load_images(
                test.name,
                split="train",
                n=None,
                seed=seed,
                data_dir=data_dir,
                download=download,
                class_order=class_order,
            )
            training = fitted(training, [loaded], choose_device(device))
        threshold, test = _calibrated(loaded, test, training, statistic or "probability", rate, calibration, n, seed)
    if store is not None:
        write_threshold(threshold, beside(loaded) if store == "card" else Path(store))
    text = io.StringIO()
    console = Console(file=text, width=110, highlight=False, emoji=False, markup=False)
    if images is not None:
        files, answers, values, notes = screen(loaded, threshold, images)
        say(notes)
        screened = screen_record(loaded, threshold, files, answers, values)
        render_screen(screened, console)
        write(screened.to_json() if output_format == "json" else text.getvalue().rstrip("\n"), output)
        raise typer.Exit(1 if screened.rejected else 0)
    assert test is not None
    with steps("attacks", len(trials) * min(attacked, len(test))) as advance:
        found = run_detection(loaded, test, threshold, trials, attacked, seed, advance)
    record = detect_record(loaded, test, found)
    if plot is not None:
        draw_detection(found, plot)
    render_detect(record, console)
    write(record.to_json() if output_format == "json" else text.getvalue().rstrip("\n"), output)


def _untouched(test: Dataset, threshold: Threshold, n: int | None) -> Dataset:
    """The test images that a stored threshold was not fixed on."""
    from robcert.sensitivity.detection import divide

    same = (test.name, test.split) == (threshold.data, threshold.split)
    return divide(test, threshold.n if same else 0, n, threshold.seed)[1]


def _calibrated(
    model: LoadedModel,
    test: Dataset,
    training: Dataset | None,
    statistic: str,
    rate: float,
    calibration: int,
    n: int | None,
    seed: int,
) -> tuple[Threshold, Dataset]:
    """A threshold from clean images (those of ``training`` where there are any), and the images to test on."""
    import torch

    from robcert.errors import UsageError
    from robcert.sensitivity.detection import divide, fix_threshold

    if training is None:
        clean, rest = divide(test, calibration, n, seed)
        return fix_threshold(model, clean, statistic, rate, seed), rest
    if training.x.shape == test.x.shape and torch.equal(training.x, test.x):
        raise UsageError(
            f"{test.name} has no training part: its training images are its test images",
            "Separate them (npz:FOLDER with train.npz and test.npz, folder:FOLDER with train/ and test/), or leave "
            "--calibrate-on out",
        )
    clean, _ = divide(training, min(calibration, len(training) - 1), None, seed)
    return fix_threshold(model, clean, statistic, rate, seed), divide(test, 0, n, seed)[1]
