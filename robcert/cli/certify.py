"""`robcert certify`: what is proven, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli import options as opt
from robcert.cli.flags import DataFlags, ModelFlags


def certify(
    models: opt.Models,
    eps: Annotated[str | None, typer.Option(help="Budgets, e.g. 0.5,1,1.5 or 8/255.")] = None,
    norm: opt.Norm = "l2",
    method: Annotated[
        str,
        typer.Option(
            help="{robcert.certificates:certificate}; several with commas: a column each.",
            autocompletion=completion.certificates,
        ),
    ] = "best",
    goal: Annotated[
        str, typer.Option(help="decide: only whether each eps is certified. radius: the largest certified radius.")
    ] = "decide",
    time_per_image: Annotated[
        float,
        typer.Option(
            min=0.0, help="CPU seconds for each image, never an average; what is undecided by then is not certified."
        ),
    ] = 5.0,
    sigma: Annotated[float, typer.Option(help="smoothing: the standard deviation of the noise.")] = 0.25,
    samples: Annotated[int, typer.Option(help="smoothing: samples an image.")] = 100_000,
    confidence: Annotated[float, typer.Option(help="smoothing: that each single radius holds.")] = 0.999,
    data_flags: DataFlags = DataFlags(),
    model_flags: ModelFlags = ModelFlags(device="cpu"),
    bins: Annotated[int, typer.Option(min=0, help="Accuracy in so many bins of images sorted by confidence gap.")] = 0,
    attacks: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A finished `robcert attack` run: adds attacked accuracy to the bins."),
    ] = None,
    fallback: Annotated[
        str | None, typer.Option(help="Another model, which answers below --switch (hybrid model).")
    ] = None,
    switch: Annotated[str, typer.Option(help="The confidence gap at which to switch, or sweep.")] = "sweep",
    run: opt.Run = None,
    threads: opt.TaskThreads = None,
    output_format: opt.ReportFormat = "console",
    output: opt.Output = None,
) -> None:
    """Prove, for every image, a radius within which no perturbation changes the answer.

    Without --method, cheap certificates come first and dear ones see what is left: the gap between logits over a
    Lipschitz constant (for networks built for it), intervals, linear bounds (CROWN, for ordinary networks), branch and
    bound (small ReLU networks). An image is certified at eps if its radius is larger, all rounding included. smoothing
    is another thing: it holds with a probability, and for the classifier under noise.

    Examples:

    `robcert certify digits-l2nnn --norm l2 --eps 0.1,0.25,0.5 --bins 10`

    `robcert certify digits-at --norm linf --eps 0.02,0.05 --method gap,crown,best --n 50`

    `robcert certify digits-l2nnn --eps 0.25 --method gap --fallback digits-plain --switch sweep`
    """
    from robcert.cli.inputs import load_by_card
    from robcert.cli.notes import say
    from robcert.cli.parse import choice, numbers, write
    from robcert.errors import UsageError
    from robcert.reports import renderer_of
    from robcert.runs.certify import GOALS, methods_of
    from robcert.runs.certify import certify as run_certify
    from robcert.runs.records.certify import CertifyRecord
    from robcert.threats import threats
    from robcert.types import Threat, bound_norm

    threats.get(norm)
    bound_norm(norm)
    assert eps is not None  # robcert.cli.missing
    render = renderer_of(CertifyRecord, output_format)
    goal = choice("goal", goal, GOALS)
    methods_of(method)
    budgets = numbers(eps, "--eps")
    Threat(norm, budgets)  # refuses what is no budget before anything is loaded
    references = [*models, *([fallback] if fallback else [])]
    loaded, sets = load_by_card(
        references,
        data_flags,
        model_flags,
        together=fallback is not None,
    )
    other = loaded.pop() if fallback else None
    boxes = {images.box for images in sets[: len(loaded)]}
    if len(boxes) > 1:
        raise UsageError(f"the data sets have different boxes {sorted(boxes)}", "Certify these models one at a time")
    threat = Threat(norm, budgets, boxes.pop())
    say(threat.too_wide(images.shape) for images in sets[: len(loaded)])
    record = run_certify(
        loaded,
        sets[: len(loaded)],
        threat,
        method,
        goal=goal,
        time_per_image=time_per_image,
        seed=data_flags.seed,
        options={"sigma": sigma, "samples": samples, "confidence": confidence},
        bins=bins,
        attack_run=attacks,
        run=run,
        batch_size=data_flags.batch_size,
        cpu_threads=threads,
        fallback=other,
        switch=None if switch == "sweep" else numbers(switch, "--switch"),
    )
    write(render(record), output)
