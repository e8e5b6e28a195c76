"""``robcert.compare``: several finished runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from robcert.runs.lines import Line, read_lines
from robcert.runs.records.compare import PREDICTORS, CompareRecord, Improvement, LineRecord


def compare(
    runs: str | Path | Sequence[str | Path], *, gradients: bool = True, data_dir: str | Path | None = None
) -> CompareRecord:
    """Compare models, or attacks, by the distance of the closest adversarial examples (paper E, section 5).

    The actual improvement of a line over the first is the ratio of their median distances; the predicted ones are
    ratios of gradient norms.

    Args:
        runs: directories of finished runs with the goal "minimize", of the same images in the same norm.
        gradients: measure gradient norms too, of the networks that are stored in the runs.
        data_dir: the folder of the data sets, for the gradients.

    Returns:
        A line for each model in each run: distances, certified radii, improvements, model calls, rank correlations.

    Raises:
        UsageError: no run, a run that stopped at eps, runs of other images or another norm.
        EvaluationError: the images or a network cannot be read; a certificate that an attack contradicts.
    """
    directories = [Path(run) for run in ([runs] if isinstance(runs, (str, Path)) else runs)]
    found = read_lines(directories, None if data_dir is None else Path(data_dir), gradients)
    lines = [line_record(line, found.lines[0]) for line in found.lines]
    return CompareRecord(norm=found.norm, data=found.data, lines=lines)


def line_record(line: Line, first: Line) -> LineRecord:
    """Return the record of a line, with its improvements over the first one."""
    predicted: dict[str, Improvement] = {}
    one, other = first.gradients, line.gradients
    if one is not None and other is not None:
        for name in PREDICTORS:
            predicted[name] = Improvement(
                mean=_ratio(one.mean(name), other.mean(name)), max=_ratio(one.largest(name), other.largest(name))
            )
    return LineRecord(
        label=line.label,
        run=line.run,
        model=line.model,
        attacks=list(line.attacks),
        median_distance=_finite(line.median),
        limit=_finite(line.limit),
        improvement=_ratio(line.median, first.median),
        predicted=predicted,
        median_calls=line.calls,
        rank_correlation={} if line.correlations is None else dict(vars(line.correlations)),
        distance=[_finite(value) for value in line.distance.tolist()],
        radius=None if line.radius is None else line.radius.tolist(),
    )


def _ratio(above: float, below: float) -> float | None:
    return above / below if math.isfinite(above) and math.isfinite(below) and below > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
