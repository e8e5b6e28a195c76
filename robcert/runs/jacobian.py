"""``robcert.jacobian``: the norms of gradients over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from robcert.runs.records.jacobian import Distances, JacobianRecord, jacobian_record
from robcert.runs.run_reader import adversarial_distances
from robcert.runs.task import BLOCK, task
from robcert.sensitivity.jacobian import CHUNK, sensitivity
from robcert.types import BoundNorm, Dataset, LoadedModel


def jacobian(
    model: LoadedModel | Sequence[LoadedModel],
    data: Dataset,
    norm: BoundNorm = "l2",
    *,
    attack_run: str | Path | None = None,
    run: str | Path | None = None,
    batch_size: int | None = None,
    cpu_threads: int | None = None,
    advance: Callable[[float], None] = lambda _: None,
) -> JacobianRecord:
    """Measure how fast the answer changes with the image: norms of gradients over the data (paper E).

    The mean over the images is the total variation, the maximum a lower bound of the Lipschitz constant (eq. 2.3);
    the bound of the graph is an upper one.

    Args:
        model: one network or several (`robcert.load_model`); evaluated in float64 where that is possible.
        data: at least one image (`robcert.load_dataset`).
        norm: of the threat; gradients are measured in its dual norm too.
        attack_run: a finished run of `robcert.attack` with the goal "minimize" on the same images, with whose
            distances the estimates from one gradient are compared.
        run: the run directory; a run of the same specification found there goes on.
        batch_size: the most images measured at once; None: by the size of an image.
        cpu_threads: by default as many as torch uses.
        advance: is told how many images were measured since the last call.

    Returns:
        For each network: every statistic of every image, bounds of the graph, and two estimates of the distance.

    Raises:
        UsageError: the run does not fit.
        EvaluationError: a gradient is not finite, or lies beyond the bound of the graph (a defect of robcert).
    """
    models = [model] if isinstance(model, LoadedModel) else list(model)
    known = [
        None
        if attack_run is None
        else Distances(str(attack_run), adversarial_distances(Path(attack_run), one, data, norm))
        for one in models
    ]
    asked = {"norm": norm, "attacks": None if attack_run is None else str(attack_run)}
    with task("jacobian", run, models, [data] * len(models), asked, cpu_threads) as work:
        chunk = CHUNK if run is None else BLOCK
        found = [
            sensitivity(
                one, data, norm, advance, lambda at, make, k=k: work.tensors(f"{k} {at}", make), chunk, batch_size
            )
            for k, one in enumerate(models)
        ]
        record = jacobian_record(list(zip(models, found, known, strict=True)), data, norm)
        work.finish(record)
    return record
