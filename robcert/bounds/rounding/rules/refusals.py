"""Ops of whose rounding nothing is known, and why."""

from __future__ import annotations

from robcert.bounds.lipschitz.rules.infinite import REASONS

REFUSALS: dict[str, str] = {
    **REASONS,
    **dict.fromkeys(
        ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), "its weights are computed in float32"
    ),
}
"""Name of an ATen op -> why there is no bound of what it rounds away; without a finite constant, errors grow freely."""
