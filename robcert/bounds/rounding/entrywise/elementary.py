"""Rounding of ops that move, compare, add and scale entries, entry by entry."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from robcert.bounds.linear.activations import Activation
from robcert.bounds.linear.affine import Diagonal, Sum
from robcert.bounds.linear.rules import LinearCall, Ref
from robcert.bounds.linear.step import Interval, Rounding, Step
from robcert.bounds.lipschitz.rules.shapes import MOVES
from robcert.bounds.rounding.entrywise import WIDE, entrywise, largest, rounded
from robcert.bounds.rounding.rules import FLOAT32

_HELD = 2.0**-50
"""The interval of a step that moves entries has no room for the rounding of what is added to it."""


@entrywise(
    *MOVES,
    *("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "slice", "narrow", "select", "split"),
    *("split_with_sizes", "chunk", "unbind", "tensor_split", "index", "index_select", "expand", "expand_as", "repeat"),
    *("tile", "unfold", "im2col", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("repeat_interleave", "tril", "triu", "diagonal", "slice_copy", "cat", "concat", "concatenate", "stack", "relu"),
    *("relu6", "neg", "abs", "sign", "sgn", "maximum", "minimum", "max", "min", "amax", "amin", "max_pool1d"),
    *("max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "sort", "topk", "msort"),
)
def exact(call: LinearCall, step: Step) -> None:
    """Moves, copies, compares, changes a sign: nothing is rounded, whatever the arguments."""


@entrywise("_to_copy", "to", "type_as")
def cast_type(call: LinearCall, step: Step) -> Rounding:
    """To float32 (from float64) is one rounding; the rule of the graph refuses anything narrower."""
    return Rounding(lambda given, _: rounded(1, largest(given[0])), positive=True)


@entrywise("pad", "constant_pad_nd", "masked_fill", "where", "clamp", "clip", "clamp_min", "clamp_max", "hardtanh",
           "threshold")  # fmt: skip
def constants(call: LinearCall, step: Step) -> Rounding | None:
    """Copies and comparisons; a Python number among them becomes a float32 number, one rounding."""
    names = ("value", "min", "max", "min_val", "max_val", "threshold", "self", "other")  # the last two: where
    given = [float(g) for g in map(call.given.get, names) if isinstance(g, int | float)]
    if all(float(torch.tensor(g, dtype=torch.float32)) == g for g in given):
        return None
    moved = FLOAT32.u * max(map(abs, given)) + FLOAT32.tiny
    return Rounding(lambda _, result: moved * WIDE + _HELD * largest(result))


@entrywise("mul", "div", "square", "pow")
def scaled(call: LinearCall, step: Step) -> Rounding | None:
    """A product: its own rounding and that of a factor; a quotient: also a reciprocal."""
    if call.op == "pow" and call.given["exponent"] == 0.5:
        return square_root(call, step)
    if call.op == "pow" and call.given["exponent"] == 1:
        return None
    if isinstance(step, Activation) and call.op == "div":  # x / (|x| + c), whose slope at 0 is 1 / c
        steepest = float(step.function.slope(torch.zeros((), dtype=torch.float64)))
        return Rounding(lambda _, result: rounded(8, largest(result), steepest))
    if not isinstance(step, Diagonal):
        square = len(step.sources) == 1
        return Rounding(lambda given, result: rounded(8, largest(result), _steepest(given)), square=square)
    divisor = call.given.get("other") if call.op == "div" else None
    tiny = divisor is not None and bool((torch.as_tensor(divisor, dtype=torch.float64).abs() < FLOAT32.tiny).any())
    size, most = step.scale.abs(), float(step.scale.abs().max()) if step.scale.numel() else 0.0

    def bound(given: list[Interval], _: Interval) -> Tensor:
        found = rounded(6, largest(given[0]) * size, most) + 64 * FLOAT32.tiny * (1 + largest(given[0]))
        return found + math.inf if tiny else found  # a divisor that may be read as 0

    return Rounding(bound, positive=bool((step.scale >= 0).all()))


def _steepest(given: list[Interval]) -> float:
    """The largest entry that another one, which may be read as 0, is multiplied by."""
    return max(float(x.largest.max()) if len(x.lower) else 0.0 for x in given)


@entrywise("add", "sub", "rsub")
def added(call: LinearCall, step: Step) -> Rounding:
    """A sum of two: the rounding of a factor, of a product and of the sum, of |a| + |b|."""
    alpha = call.given.get("alpha")
    factor = 1.0 if alpha is None else abs(float(alpha))
    if isinstance(step, Sum):
        factors = [abs(f) for f in step.factors]
        shapes = [(*([1] * (len(step.shape) - len(s))), *s) for s in step.shapes]

        def total(given: list[Interval], _: Interval) -> Tensor:
            terms = (largest(x).reshape(len(x.lower), *s) * f for x, f, s in zip(given, factors, shapes, strict=True))
            return rounded(3, sum(terms, torch.zeros((), dtype=torch.float64)), max(factors))

        return Rounding(total, positive=min(step.factors) >= 0)
    assert isinstance(step, Diagonal)
    twice = isinstance(call.given["self"], Ref) and isinstance(call.given["other"], Ref)
    size: Any = 1 + factor if twice else step.scale.abs()
    most, shift = max(1.0, factor), step.shift.abs()

    def bound(given: list[Interval], _: Interval) -> Tensor:
        return rounded(3, largest(given[0]) * size + shift, most)

    return Rounding(bound, positive=bool((step.scale >= 0).all()) and bool((step.shift >= 0).all()))


@entrywise("sqrt")
def square_root(call: LinearCall, step: Step) -> Rounding:
    """One rounding of the root; what is negative has none, and a subnormal argument may be read as 0."""

    def bound(given: list[Interval], result: Interval) -> Tensor:
        found = rounded(4, largest(result)) + 2 * math.sqrt(FLOAT32.tiny)
        return torch.where(given[0].lower < 0, math.inf, found)

    return Rounding(bound)


@entrywise("linalg_vector_norm")
def vector_norm(call: LinearCall, step: Step) -> Rounding:
    """A root of a sum of k squares: nothing cancels, so its relative error is gamma_{k+8}, and what underflows."""
    source = call.operands[0]
    count = math.prod(source.shape) // max(1, math.prod(step.shape)) + 8

    def bound(given: list[Interval], result: Interval) -> Tensor:
        size = largest(result)
        found = rounded(count, size) + math.sqrt(8 * count * FLOAT32.tiny) * WIDE
        return torch.where(size > 2.0**60, math.inf, found)  # a square overflows

    return Rounding(bound)
