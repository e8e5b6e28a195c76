"""Rounding of ops that move, compare, add and scale entries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robcert.bounds.lipschitz.rules.shapes import MOVES
from robcert.bounds.lipschitz.values import Value, product, root, total
from robcert.bounds.rounding.rules import FLOAT64, Local, local
from robcert.graph.batch import per_image
from robcert.math.rounding import gamma, up


@local(
    *MOVES,
    *("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "slice", "narrow", "select", "split"),
    *("split_with_sizes", "chunk", "unbind", "tensor_split", "index", "index_select", "gather", "expand"),
    *("expand_as", "repeat", "tile", "unfold", "im2col", "upsample_nearest1d", "upsample_nearest2d"),
    *("upsample_nearest3d", "repeat_interleave", "tril", "triu", "diagonal", "slice_copy", "cat"),
    *("concat", "concatenate", "stack", "relu", "relu6", "neg", "abs", "sign", "sgn", "maximum", "minimum"),
    *("max", "min", "amax", "amin", "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices"),
    *("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool1d", "adaptive_max_pool2d"),
    *("adaptive_max_pool3d", "sort", "topk", "msort", "median", "kthvalue"),
)
def exact(at: Local) -> float:
    """Moves, copies, compares, changes a sign: nothing is rounded, whatever the arguments."""
    at.call.ignore(*at.call.given)
    return 0.0


@local("_to_copy", "to", "type_as")
def cast_type(at: Local) -> float:
    """To float32 (from float64) is one rounding; the rule of the graph refuses anything narrower."""
    at.call.ignore("self", "dtype", "other")
    return at.rounded(1, at.read)


@local(
    *("pad", "constant_pad_nd", "masked_fill", "where", "clamp", "clip", "clamp_min", "clamp_max", "hardtanh"),
    "threshold",
)
def constants(at: Local) -> float:
    """Copies and comparisons; a Python number among them becomes a float32 number, one rounding."""
    names = ("value", "min", "max", "min_val", "max_val", "threshold", "self", "other")  # the last two: where
    given = [float(g) for g in map(at.call.get, names) if isinstance(g, int | float)]
    at.call.ignore(*at.call.given)  # masks, sizes, modes and tensors, which are float32 numbers already
    if at.unit is FLOAT64 or all(float(torch.tensor(g, dtype=torch.float32)) == g for g in given):
        return 0.0
    return product(root(at.entries), up(at.unit.u * max(map(abs, given)) + at.unit.tiny, 4))


@local("mul", "div", "square")
def scaled(at: Local) -> float:
    """A factor: its own rounding, the product (or reciprocal and product); softsign: a sum and a quotient."""
    at.call.ignore("self", "other", "rounding_mode")  # a mode that rounds has no finite constant
    return at.rounded(6, at.moved)


@local("add", "sub", "rsub")
def added(at: Local) -> float:
    """A sum of two: |a| + |b| times the rounding of a factor, of a product and of the sum."""
    return at.rounded(3, total(at.moved, _constants(at)))


def _constants(at: Local) -> float:
    """The l2 norm of the constant term of a sum."""
    given = [at.call.get(name) for name in ("self", "other")]
    alpha = at.call.get("alpha")
    factor = max(1.0, abs(float(alpha))) if alpha is not None else 1.0
    terms = [length(at, g) for g in given if not isinstance(g, Value) and g is not None]
    return product(factor, total(*terms))


def length(at: Local, constant: Any, *, channels: bool = False) -> float:
    """The l2 norm of a constant in the shape of the result, one image.

    Args:
        at: the op.
        constant: a tensor, a number or None.
        channels: it lies along axis 1 instead of the last one.
    """
    if constant is None:
        return 0.0
    if not isinstance(constant, Tensor):
        return product(root(at.entries), abs(float(constant)))
    full = constant.detach().double().cpu()
    shape = at.value.shape
    if channels:
        full = full.reshape(-1, *([1] * (len(shape) - 2)))
    rows = per_image(full.expand(shape), at.placed)
    factor = 1 + gamma(rows.shape[1] + 4)
    return up(float(torch.linalg.vector_norm(rows, dim=1).max()) * factor, 2)
