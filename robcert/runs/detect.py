"""``robcert.detect``: reject images with a large gradient, and see who gets past."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from robcert.errors import UsageError
from robcert.runs.plan import build, parse_plan
from robcert.runs.records.detect import DetectRecord, ScreenRecord, detect_record, screen_record
from robcert.runs.spec import data_record
from robcert.runs.task import BLOCK, task
from robcert.sensitivity.detection import Detection, Trial, divide, fix_threshold
from robcert.sensitivity.detection import detect as detection
from robcert.sensitivity.detection import screen as screen_files
from robcert.sensitivity.threshold import Threshold, write_threshold
from robcert.types import Dataset, LoadedModel

PLAN = "pgd:40,boundary:1k,cw:100,evasive-cw:100"


def detect(
    model: LoadedModel,
    data: Dataset,
    plan: str = PLAN,
    *,
    threshold: Threshold | None = None,
    statistic: str = "probability",
    rate: float = 0.05,
    calibration: int = 250,
    training: Dataset | None = None,
    n: int | None = None,
    attacked: int | None = 100,
    options: Mapping[str, dict[str, Any]] | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    run: str | Path | None = None,
    batch_size: int | None = None,
    cpu_threads: int | None = None,
    advance: Callable[[float], None] = lambda _: None,
    measured: Callable[[Detection], None] = lambda _: None,
) -> DetectRecord:
    """Detect adversarial examples by the size of a gradient, and attack the detector too (paper E, section 7).

    An image is rejected where the statistic exceeds a threshold that is fixed on clean images.

    Args:
        model: the network (`robcert.load_model`).
        data: clean test images (`robcert.load_dataset`), whole: a part of them fixes the threshold.
        plan: attacks in l2, "attack:iterations[xrestarts]" with commas; evasive-cw attacks the detector too.
        threshold: a threshold that was fixed before; what it was fixed on is not tested on.
        statistic: what is measured, a statistic of `robcert.jacobian`.
        rate: the rate of false positives to aim at.
        calibration: how many clean images fix the threshold.
        training: images of the same data that the network was not trained on, to fix the threshold on instead.
        n: clean test images; None: all the others.
        attacked: at most so many of the right test images are attacked; None: all.
        options: by attack name, options of that attack.
        seed: of the parts and of the attacks' random starts.
        store: a file to keep the threshold in.
        run: the run directory; a run of the same specification found there goes on.
        batch_size: the most images attacked at once; None: by the size of an image.
        cpu_threads: by default as many as torch uses.
        advance: is told how many attacks on an image have ended since the last call.
        measured: is told all measurements, of which the record has a summary.

    Returns:
        The false positives, and how many examples of each attack are detected.

    Raises:
        UsageError: an unknown statistic or attack; too few images.
        EvaluationError: the evaluation could not be done.
    """
    trials = trials_of(plan, options or {})
    asked = {
        "plan": [trial.name for trial in trials],
        "threshold": None if threshold is None else threshold.model_dump(),
        "statistic": statistic,
        "rate": rate,
        "calibration": calibration,
        "training": None if training is None else data_record(training).model_dump(),
        "n": n,
        "attacked": attacked,
        "options": {name: dict(values) for name, values in (options or {}).items()},
        "seed": seed,
    }
    with task("detect", run, [model], [data], asked, cpu_threads) as work:
        limit, test = fixed(model, data, threshold, statistic, rate, calibration, training, n, seed)
        if store is not None:
            write_threshold(limit, Path(store))
        found = detection(
            model,
            test,
            limit,
            trials,
            attacked,
            seed,
            advance,
            work.tensors,
            None if run is None else BLOCK,
            batch_size,
        )
        record = detect_record(model, test, found)
        work.finish(record)
    measured(found)
    return record


def screen(model: LoadedModel, threshold: Threshold, folder: str | Path) -> tuple[ScreenRecord, list[str]]:
    """Screen the image files below a folder with a detector, for use in a pipeline.

    Args:
        model: the network.
        threshold: of its detector.
        folder: that holds the files.

    Returns:
        A line for each file, and notes on how the files were read.

    Raises:
        UsageError: no folder, or no image in it.
        EvaluationError: a file is no image, or not of the model's size.
    """
    files, answers, values, notes = screen_files(model, threshold, Path(folder))
    return screen_record(model, threshold, files, answers, values), notes


def trials_of(plan: str, options: Mapping[str, dict[str, Any]]) -> list[Trial]:
    """Return the attacks of a plan.

    Raises:
        UsageError: an attack or an option is unknown.
    """
    return [Trial(str(leg), build(leg, "l2", dict(options)), leg.restarts) for leg in parse_plan(plan)]


def fixed(
    model: LoadedModel,
    data: Dataset,
    threshold: Threshold | None,
    statistic: str,
    rate: float,
    calibration: int,
    training: Dataset | None,
    n: int | None,
    seed: int,
) -> tuple[Threshold, Dataset]:
    """Return a threshold (the one that is given, else one from clean images) and the images to test on.

    Raises:
        UsageError: too few images; no training images of their own.
    """
    if threshold is not None:
        same = (data.name, data.split) == (threshold.data, threshold.split)
        return threshold, divide(data, threshold.n if same else 0, n, threshold.seed)[1]
    if training is None:
        clean, rest = divide(data, calibration, n, seed)
        return fix_threshold(model, clean, statistic, rate, seed), rest
    if training.x.shape == data.x.shape and torch.equal(training.x, data.x):
        raise UsageError(
            f"{data.name} has no training part: its training images are its test images",
            "Separate them (npz:FOLDER with train.npz and test.npz, folder:FOLDER with train/ and test/), or leave "
            "--calibrate-on out",
        )
    clean, _ = divide(training, min(calibration, len(training) - 1), None, seed)
    return fix_threshold(model, clean, statistic, rate, seed), divide(data, 0, n, seed)[1]
