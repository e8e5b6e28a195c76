"""Images whose certificate had no time left, with what is known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from robcert.certificates import Certificates
from robcert.runs.record import OutOfTime

_NAMED = 8
"""Images that a line of text names; the record has them all."""


def out_of_time(found: Certificates | None, index: Tensor, distance: Tensor | None = None) -> list[OutOfTime]:
    """Return the images that had no time left, in their order.

    Args:
        found: what is certified.
        index: (n,) int64, of the images in their data set.
        distance: (n,) float64 of the closest verified example; infinite where none is known.
    """
    effort = None if found is None else found.effort
    if found is None or effort is None:
        return []
    return [
        OutOfTime(
            index=int(index[k]),
            seconds=round(float(effort.seconds[k]), 3),
            radius=float(found.radius[k]),
            failed=_finite(effort.failed[k]),
            margin=_finite(effort.margin[k]),
            distance=None if distance is None else _finite(distance[k]),
        )
        for k in effort.late.nonzero().flatten().tolist()
    ]


def _finite(value: Tensor) -> float | None:
    return float(value) if math.isfinite(float(value)) else None


def time_line(late: Sequence[OutOfTime], n: int) -> str:
    """Return a sentence that names the images with their bounds; "" where there is none."""
    if not late:
        return ""
    some = ", ".join(map(_bounds, late[:_NAMED])) + (", ... (--format json: all)" if len(late) > _NAMED else "")
    return f"the time was up for {len(late)} of {n} images, --time-per-image gives more: {some}"


def _bounds(one: OutOfTime) -> str:
    told = [f"certified to {one.radius:.4g}"]
    if one.distance is not None:
        told.append(f"broken at {one.distance:.4g}")
    elif one.failed is not None:
        told.append(f"open at {one.failed:.4g}" + ("" if one.margin is None else f", margin above {one.margin:.3g}"))
    return f"{one.index} ({', '.join(told)})"
