"""Operators that have no linear relaxation, and why."""

from __future__ import annotations

from robcert.bounds.lipschitz.rules.infinite import REASONS

_SOFT = "all entries along an axis meet in each of its results; at the end of a network, log_softmax changes no margin"
_WAVES = "it bends back and forth without end"

PRODUCTS = ("einsum", "scaled_dot_product_attention")
"""Ops without a finite Lipschitz constant that have a relaxation; linear bounds alone bound their rounding."""

REFUSALS: dict[str, str] = {
    **{name: why for name, why in REASONS.items() if name not in PRODUCTS},
    **dict.fromkeys(("log_softmax", "_log_softmax", "logsumexp"), _SOFT),
    **dict.fromkeys(("sin", "cos"), _WAVES),
    "convolution": "conv1d, conv2d and conv3d have one",
    "gather": "index and index_select have one",
    "kthvalue": "sort has one",
    "median": "sort has one",
    "norm": "linalg_vector_norm has one",
}
"""Name of an ATen op -> why there is no relaxation of it."""
