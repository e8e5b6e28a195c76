"""`robcert certify`: what is proven, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli.options import Arch, Classes, ClassOrder, InputShape, Mean, Std, WeightsKey


def certify(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Zoo names or files, see `robcert models`.")],
    eps: Annotated[str | None, typer.Option(help="Budgets, e.g. 0.5,1,1.5 or 8/255.")] = None,
    norm: Annotated[str, typer.Option(help="l2, linf or l1.")] = "l2",
    method: Annotated[
        str,
        typer.Option(
            help="best, gap, ibp, crown-ibp, crown, alpha-crown, bab, smoothing; several with commas: a column each."
        ),
    ] = "best",
    goal: Annotated[
        str, typer.Option(help="decide: only whether each eps is certified. radius: the largest certified radius.")
    ] = "decide",
    time_per_image: Annotated[
        float,
        typer.Option(min=0.0, help="Seconds for an image, on average; what is undecided by then is not certified."),
    ] = 2.0,
    sigma: Annotated[float, typer.Option(help="smoothing: the standard deviation of the noise.")] = 0.25,
    samples: Annotated[int, typer.Option(help="smoothing: samples an image.")] = 100_000,
    confidence: Annotated[float, typer.Option(help="smoothing: that each single radius holds.")] = 0.999,
    data: Annotated[str | None, typer.Option(help="See `robcert data`.", show_default="what the card names")] = None,
    split: Annotated[str, typer.Option(help="test or train.")] = "test",
    n: Annotated[int | None, typer.Option("--n", min=1, help="Images.", show_default="all")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the subset.")] = 0,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of the data sets.", show_default="$ROBCERT_DATA, then ~/.cache/robcert"),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing data.")] = False,
    class_order: ClassOrder = None,
    arch: Arch = None,
    weights_key: WeightsKey = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    bins: Annotated[int, typer.Option(min=0, help="Accuracy in so many bins of images sorted by confidence gap.")] = 0,
    run: Annotated[
        Path | None, typer.Option(help="A finished `robcert attack` run: adds attacked accuracy to the bins.")
    ] = None,
    fallback: Annotated[
        str | None, typer.Option(help="Another model, which answers below --switch (hybrid model).")
    ] = None,
    switch: Annotated[str, typer.Option(help="The confidence gap at which to switch, or sweep.")] = "sweep",
    output_format: Annotated[str, typer.Option("--format", help="console or json.")] = "console",
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
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
    import io
    import itertools

    from rich.console import Console

    from robcert.certify import Search, certificates
    from robcert.certify.hybrid import hybrid, thresholds
    from robcert.cli.inputs import Foreign, data_of_cards, load_inputs
    from robcert.cli.notes import say
    from robcert.cli.parse import numbers, write
    from robcert.engine.allocator import keep_memory
    from robcert.engine.batching import logits_of
    from robcert.errors import UsageError, did_you_mean
    from robcert.reports.certificates import CertifyRecord, certified_model, render_certify
    from robcert.runs.spec import threat_record
    from robcert.runs.standing import standing
    from robcert.types import NORMS, Dataset, LoadedModel, Threat

    if norm not in NORMS:
        raise UsageError(f"unknown norm {norm!r}", did_you_mean(norm, NORMS))
    if eps is None:
        raise UsageError("--eps is missing", f"Example: robcert certify {models[0]} --norm {norm} --eps 0.1,0.25,0.5")
    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    if goal not in ("decide", "radius"):
        raise UsageError(f"unknown goal {goal!r}", did_you_mean(goal, ["decide", "radius"]))
    methods = list(dict.fromkeys(part.strip() for part in method.split(",") if part.strip())) or [""]
    provers = [certificates.get(name) for name in methods]
    given = [name for name, value in (("--bins", bins), ("--run", run), ("--fallback", fallback)) if value]
    if given and "smoothing" in methods:
        raise UsageError(
            f"{' and '.join(given)} sort and switch by the confidence gap, and the smoothed classifier has none",
            "Certify with --method smoothing alone, or choose another method for these tables",
        )
    budgets = numbers(eps, "--eps")
    Threat(norm, budgets)
    references = [*models, *([fallback] if fallback else [])]
    # Without --data every model is certified on the data of its own card; a fallback answers for the same images.
    sets = dict.fromkeys(references, data) if data or fallback else data_of_cards(references)
    foreign = Foreign.parse(arch, weights_key, input_shape, classes, mean, std)
    loaded: list[tuple[LoadedModel, Dataset]] = []
    for name in dict.fromkeys(sets.values()):
        these, images = load_inputs(
            [reference for reference in references if sets[reference] == name],
            name,
            split=split,
            n=n,
            seed=seed,
            data_dir=data_dir,
            download=download,
            device="cpu",
            foreign=foreign,
            class_order=class_order,
        )
        loaded += [(model, images) for model in these]
    other = loaded.pop()[0] if fallback else None
    boxes = {images.box for _, images in loaded}
    if len(boxes) > 1:
        raise UsageError(f"the data sets have different boxes {sorted(boxes)}", "Certify these models one at a time")
    threat = Threat(norm, budgets, boxes.pop())
    say(threat.too_wide(images.shape) for _, images in loaded)
    keep_memory()
    records = []
    search = Search(
        eps=threat.eps,
        largest=goal == "radius",
        seconds=time_per_image,
        seed=seed,
        options={"sigma": sigma, "samples": samples, "confidence": confidence},
    )
    for (model, images), prove in itertools.product(loaded, provers):
        found = prove(model, images.x, images.y, norm, search)
        switches = []
        if other is not None:
            right = logits_of(other.module, images.x, 128).argmax(dim=1) == images.y
            steps = thresholds(found.gap) if switch == "sweep" else list(numbers(switch, "--switch"))
            switches = [(other.name, hybrid(found.gap, found.prediction == images.y, right, at)) for at in steps]
        attacked = None if run is None else standing(run, model, images, threat)
        records.append(certified_model(model, images, threat, found, bins, attacked, switches, search.largest))
    record = CertifyRecord(
        method=",".join(methods),
        threat=threat_record(threat),
        models=records,
    )
    if output_format == "json":
        write(record.to_json(), output)
        return
    text = io.StringIO()
    render_certify(record, Console(file=text, width=110, highlight=False, emoji=False, markup=False))
    write(text.getvalue().rstrip("\n"), output)
