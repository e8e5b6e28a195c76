"""Ops that have no finite constant. They are reported with the reason, never left out."""

from __future__ import annotations

from robcert.bounds.lipschitz.call import LipschitzCall, NotFinite
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.values import Value

GROW = "its slope grows without end"
JUMP = "it jumps"
REASONS: dict[str, str] = {
    "exp": GROW,
    "expm1": GROW,
    "exp2": GROW,
    "sinh": GROW,
    "cosh": GROW,
    "tan": GROW,
    "log": "its slope grows without end at 0",
    "log2": "its slope grows without end at 0",
    "log10": "its slope grows without end at 0",
    "log1p": "its slope grows without end at -1",
    "rsqrt": "its slope grows without end at 0",
    "reciprocal": "its slope grows without end at 0",
    "prod": "a product of computed entries",
    "var": "a square of computed entries",
    "std": "the slope of a root grows without end at 0",
    "glu": "it multiplies two tensors that both depend on the input",
    "scaled_dot_product_attention": "its weights depend on the input, and so does what they multiply",
    "einsum": "only constants can be taken into an einsum where the other factors are known",
    "hardshrink": JUMP,
    "floor": JUMP,
    "ceil": JUMP,
    "round": JUMP,
    "trunc": JUMP,
    "frac": JUMP,
    "remainder": JUMP,
    "fmod": JUMP,
    "argmax": JUMP,
    "argmin": JUMP,
    "argsort": JUMP,
    "gt": JUMP,
    "ge": JUMP,
    "lt": JUMP,
    "le": JUMP,
    "eq": JUMP,
    "ne": JUMP,
    "grid_sampler": "its grid, or the slope of its grid, depends on the input",
    "addcmul": "it may multiply two tensors that both depend on the input",
}


@rule(*REASONS)
def infinite(call: LipschitzCall) -> Value:
    """No finite constant."""
    raise NotFinite(REASONS[call.op])
