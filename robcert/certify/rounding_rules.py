"""What each op of a network rounds away on its own: one function a family of ops, registered by ATen name.

With x^ what the op reads when it is executed, a rule bounds ||op_executed(x^) - op(x^)||_2 for one image, where op
is the exact function. It knows ||x^||_2 and ||op(x^)||_2 at most. An op without a rule is refused by name; the
derivations are in docs/soundness.md, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from robcert.graph.batch import per_image
from robcert.graph.export import IMAGES
from robcert.graph.read import Placement
from robcert.lipschitz.call import Call
from robcert.lipschitz.rules.shapes import MOVES
from robcert.lipschitz.values import Value, product, root, total
from robcert.math.rounding import gamma, up


@dataclass(frozen=True)
class Unit:
    """A floating-point format: fl(a op b) = (a op b)(1 + d) + e with |d| <= u, |e| <= tiny.

    ``tiny`` is the smallest normal number, so that flushing subnormal numbers to zero is covered.
    """

    u: float
    tiny: float

    def gamma(self, n: int) -> float:
        """The constant n u / (1 - n u), rounded up: n roundings change a value by at most this factor."""
        whole = n * self.u
        return up(whole / (1 - whole), 4) if whole < 0.5 else math.inf


FLOAT32 = Unit(2.0**-24, 2.0**-126)
FLOAT64 = Unit(2.0**-53, 2.0**-1022)


@dataclass(frozen=True)
class Layer:
    """A linear layer: ``terms`` products are summed into an entry of the result.

    Attributes:
        terms: n.
        absolute: a bound of || |W| ||_2.
        largest: the largest |weight|.
        bias: ||b||_2, one image.
        row: a bound of the largest l2 norm of a row of W, where W is a plain matrix; else infinite.
        row_bias: the largest |b|.
    """

    terms: int
    absolute: float
    largest: float
    bias: float
    row: float
    row_bias: float


@dataclass(frozen=True)
class Local:
    """One op and what is known about the numbers that it meets.

    Attributes:
        call: the op.
        value: its result.
        unit: the format in which it is executed.
        size: node -> a bound of the l2 norm of its executed value, one image.
        out: a bound of ||op(x^)||_2, one image.
        calls: every op of the graph by the name of its node.
        linear: what is kept of linear layers between two walks.
        reasons: a rule that has no finite bound appends why.
        placed: where the images lie in the result.
    """

    call: Call
    value: Value
    unit: Unit
    size: Callable[[str], float]
    out: float
    calls: dict[str, Call]
    linear: dict[str, Layer]
    reasons: list[str]
    placed: Placement

    @property
    def entries(self) -> float:
        """Entries of the result, one image."""
        return max(1.0, self.value.size / IMAGES)

    @property
    def read(self) -> float:
        """The sum of ||x^|| over what the op reads."""
        return total(*(self.size(name) for name, _ in self.value.sources))

    @property
    def moved(self) -> float:
        """The sum of gain ||x^||: a bound of || |A| |x^| ||_2 for an op with no more than one factor a copy."""
        return total(*(product(gain.l2, self.size(name)) for name, gain in self.value.sources))

    def rounded(self, times: int, size: float) -> float:
        """``times`` roundings of terms whose absolute values sum up to ``size``, and their underflow."""
        gains = sum(gain.l2 for _, gain in self.value.sources)
        underflow = 8 * (times + 1) * self.unit.tiny * (1 + self.read + gains)
        return total(product(self.unit.gamma(times), size), product(root(self.entries), underflow))


Rule = Callable[[Local], float]
R = TypeVar("R", bound=Rule)
RULES: dict[str, Rule] = {}
"""Name of an ATen op -> the bound of what it rounds away."""


def local(*names: str) -> Callable[[R], R]:
    """Decorator that registers a rule for the named ops."""

    def keep(function: R) -> R:
        RULES.update(dict.fromkeys(names, function))
        return function

    return keep


@local(
    *MOVES,
    *("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "slice", "narrow", "select", "split"),
    *("split_with_sizes", "chunk", "unbind", "tensor_split", "index", "index_select", "gather", "take", "expand"),
    *("expand_as", "repeat", "tile", "unfold", "im2col", "upsample_nearest1d", "upsample_nearest2d"),
    *("upsample_nearest3d", "repeat_interleave", "tril", "triu", "diagonal", "as_strided", "slice_copy", "cat"),
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
