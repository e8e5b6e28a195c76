"""``robcert.certify``: what is proven, image by image."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from robcert.accel.allocator import keep_memory
from robcert.certificates import Certificates, Search, certificates, join
from robcert.certificates.effort import SECONDS
from robcert.certificates.hybrid import Switch, hybrid, thresholds
from robcert.errors import UsageError, did_you_mean
from robcert.network.batching import logits_of
from robcert.progress import working
from robcert.runs.certified import packed, unpacked
from robcert.runs.records.certify import CertifyRecord, certified_model
from robcert.runs.run_reader import standing
from robcert.runs.spec import threat_record
from robcert.runs.task import Task, batches, task
from robcert.types import BoundNorm, Dataset, LoadedModel, Threat, bound_norm

CertifyGoal = Literal["decide", "radius"]
GOALS: tuple[CertifyGoal, ...] = ("decide", "radius")


def certify(
    model: LoadedModel | Sequence[LoadedModel],
    data: Dataset | Sequence[Dataset],
    threat: Threat,
    method: str = "best",
    *,
    goal: CertifyGoal = "decide",
    time_per_image: float | None = SECONDS,
    seed: int = 0,
    options: Mapping[str, float] | None = None,
    bins: int = 0,
    attack_run: str | Path | None = None,
    fallback: LoadedModel | None = None,
    switch: Sequence[float] | None = None,
    run: str | Path | None = None,
    batch_size: int | None = None,
    cpu_threads: int | None = None,
) -> CertifyRecord:
    """Prove, for every image, a radius within which no perturbation changes the answer.

    An image is certified at eps if its radius is larger, all rounding of the float32 network included.

    Args:
        model: one network or several (`robcert.load_model`).
        data: the images (`robcert.load_dataset`): one data set for all networks, or one for each.
        threat: norm and budgets.
        method: a certificate ("best": the ladder from cheap to dear), or several with commas.
        goal: "decide" (only whether each budget is certified) or "radius" (the largest certified radius).
        time_per_image: CPU seconds for each image, never an average; what is undecided by then is not certified. None:
            no limit.
        seed: of the samples of smoothing.
        options: of smoothing: "sigma", "samples", "confidence".
        bins: count in so many bins of the images, sorted by confidence gap; 0: none.
        attack_run: a finished run of `robcert.attack` on the same images, whose accuracy the bins show too.
        fallback: another network, which answers where the confidence gap is small (hybrid model).
        switch: gaps below which ``fallback`` answers; by default some of those that occur.
        run: the run directory; a run of the same specification found there goes on.
        batch_size: the most images certified at once; None: methods choose by the size of the network.
        cpu_threads: by default as many as torch uses.

    Returns:
        For each network and method: counts at each budget, and the radii of all images.

    Raises:
        UsageError: a name, a budget or a shape does not fit, or operators have no norm of that name.
        EvaluationError: no method supports the network.
    """
    norm = bound_norm(threat.norm)
    models = [model] if isinstance(model, LoadedModel) else list(model)
    sets = [data] * len(models) if isinstance(data, Dataset) else list(data)
    if goal not in GOALS:
        raise UsageError(f"unknown goal {goal!r}", did_you_mean(goal, GOALS))
    methods = methods_of(method)
    _check_tables(methods, bins, attack_run, fallback)
    search = Search(
        eps=threat.eps,
        largest=goal == "radius",
        seconds=time_per_image,
        seed=seed,
        options=options or {},
    )
    asked = {
        "threat": threat_record(threat).model_dump(),
        "methods": methods,
        "goal": goal,
        "time_per_image": time_per_image,
        "seed": seed,
        "options": dict(options or {}),
        "fallback": None if fallback is None else fallback.source.network,
        "bins": bins,
        "attacks": None if attack_run is None else str(attack_run),
        "switch": None if switch is None else list(switch),
    }
    keep_memory()
    records = []
    with task("certify", run, models, sets, asked, cpu_threads) as work:
        for (number, one), name in itertools.product(enumerate(models), methods):
            images = sets[number]
            found = _certificates(work, f"{number} {name}", one, images, name, norm, search, batch_size)
            switches = [] if fallback is None else _switches(found, fallback, images, switch)
            attacked: Tensor | None = None if attack_run is None else standing(Path(attack_run), one, images, threat)
            records.append(certified_model(one, images, threat, found, bins, attacked, switches, search.largest))
        record = CertifyRecord(method=",".join(methods), threat=threat_record(threat), models=records)
        work.finish(record)
    return record


def _certificates(
    work: Task,
    key: str,
    model: LoadedModel,
    images: Dataset,
    method: str,
    norm: BoundNorm,
    search: Search,
    batch_size: int | None,
) -> Certificates:
    """Certify images block by block, at most ``batch_size`` at once."""
    blocks = [slice(0, len(images))] if work.store is None else work.blocks(len(images))
    parts: list[Certificates] = []
    # All images at once are counted by the method itself.
    counted = work.store is not None or batch_size is not None
    with working(f"{model.name}: {method}, {len(images)} images", len(images) if counted else None, "images") as told:

        def prove(block: slice) -> Certificates:
            found: list[Certificates] = []
            for rows in batches(block, batch_size):
                asked = replace(search, first=rows.start)
                found.append(certificates.get(method)(model, images.x[rows], images.y[rows], norm, asked))
                told.advance(rows.stop - rows.start)
            return join(found)

        for block in blocks:
            if work.store is None:
                return prove(block)
            parts.append(unpacked(work.part(f"{key} {block.start}", lambda block=block: packed(prove(block)))))
            told.done = block.stop
    return join(parts)


def methods_of(text: str) -> list[str]:
    """Return the names of certificates in a text with commas.

    Raises:
        UsageError: one is unknown, or there is none.
    """
    methods = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or [""]
    for name in methods:
        certificates.get(name)
    return methods


def _check_tables(methods: list[str], bins: int, attack_run: object, fallback: object) -> None:
    given = [name for name, value in (("--bins", bins), ("--attacks", attack_run), ("--fallback", fallback)) if value]
    smoothed = [name for name in methods if certificates.get(name).probabilistic]
    if given and smoothed:
        raise UsageError(
            f"{' and '.join(given)} sort and switch by the confidence gap, and the smoothed classifier has none",
            f"Certify with --method {','.join(smoothed)} alone, or choose another method for these tables",
        )


def _switches(
    found: Certificates, fallback: LoadedModel, images: Dataset, switch: Sequence[float] | None
) -> list[tuple[str, Switch]]:
    right = logits_of(fallback.module, images.x, 128).argmax(dim=1) == images.y
    steps = thresholds(found.gap) if switch is None else list(switch)
    return [(fallback.name, hybrid(found.gap, found.prediction == images.y, right, at)) for at in steps]
