"""What each op of a network rounds away on its own: one function a family of ops, registered by ATen name.

With x^ what the op reads when it is executed, a rule bounds ||op_executed(x^) - op(x^)||_2 for one image, where op
is the exact function. It knows ||x^||_2 and ||op(x^)||_2 at most. An op without a rule is refused by name; the
derivations are in docs/soundness.md, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from robcert.lipschitz.call import Call
from robcert.lipschitz.forms import Squares
from robcert.lipschitz.operators import Conv, ConvTranspose, Dense, LinearOperator, Separable
from robcert.lipschitz.rules import rules as graph_rules
from robcert.lipschitz.values import Value, product, root, total
from robcert.math.rounding import gamma, up
from robcert.network.graph import BATCH


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
    """

    call: Call
    value: Value
    unit: Unit
    size: Callable[[str], float]
    out: float
    calls: dict[str, Call]
    linear: dict[str, Layer]

    @property
    def entries(self) -> float:
        """Entries of the result, one image."""
        return max(1.0, self.value.size / BATCH)

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
        underflow = 8 * (times + 1) * self.unit.tiny * (1 + self.read)
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
    *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose"),
    *("t", "numpy_T", "movedim", "clone", "contiguous", "alias", "detach", "lift_fresh_copy", "flip", "roll"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "swapaxes", "view_as", "dropout", "feature_dropout"),
    *("alpha_dropout", "native_dropout", "type_as", "slice", "narrow", "select", "split", "split_with_sizes"),
    *("chunk", "unbind", "tensor_split", "index", "index_select", "gather", "take", "expand", "repeat", "tile"),
    *("expand_as", "unfold", "im2col", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("repeat_interleave", "tril", "triu", "diagonal", "as_strided", "slice_copy", "cat", "concat", "concatenate"),
    *("stack", "relu", "relu6", "neg", "abs", "sign", "sgn", "where", "maximum", "minimum", "max", "min", "amax"),
    *("amin", "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices"),
    *("max_pool3d_with_indices", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "sort"),
    *("topk", "msort", "median", "kthvalue", "_assert_tensor_metadata"),
)
def exact(_: Local) -> float:
    """Moves, copies, compares, changes a sign: nothing is rounded."""
    return 0.0


@local("_to_copy", "to")
def cast_type(at: Local) -> float:
    """To float32 (from float64) is one rounding; the rule of the graph refuses anything narrower."""
    return at.rounded(1, at.read)


@local("pad", "constant_pad_nd", "masked_fill", "clamp", "clip", "clamp_min", "clamp_max", "hardtanh", "threshold")
def constants(at: Local) -> float:
    """Copies and comparisons; a Python number among them becomes a float32 number, one rounding."""
    names = ("value", "min", "max", "min_val", "max_val", "threshold")
    given = [at.call.get(name) for name in names]
    largest = max((abs(float(g)) for g in given if isinstance(g, int | float)), default=0.0)
    return 0.0 if largest in (0.0, 1.0) else product(root(at.entries), up(at.unit.u * largest, 2))


@local("mul", "div", "square", "pow")
def scaled(at: Local) -> float:
    """A factor: its own rounding, the product (or reciprocal and product); softsign: a sum and a quotient."""
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
    full = full.expand(shape)
    rows = full.reshape(BATCH, -1) if shape[:1] == (BATCH,) else full.reshape(1, -1)
    factor = 1 + gamma(rows.shape[1] + 4)
    return up(float(torch.linalg.vector_norm(rows, dim=1).max()) * factor, 2)


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


class _Captured(Exception):
    def __init__(self, op: LinearOperator) -> None:
        self.op = op


@dataclass(frozen=True)
class _Capture(Call):
    """The same op, only to find its linear operator."""

    def operator(self, x: Value, op: LinearOperator, *, label: str | None = None, roots: float | None = None) -> Value:
        raise _Captured(op)


def operator_of(call: Call) -> LinearOperator:
    """The linear operator of a layer, as its rule in `robcert.lipschitz.rules` builds it."""
    try:
        graph_rules.get(call.op)(_Capture(call.node, call.op, call.layer, call.given, call.walk))
    except _Captured as found:
        return found.op
    return call.refuse("it is no linear layer")


def layer_of(at: Local) -> Layer:
    """Looked up, or computed on the first call."""
    name = at.call.node.name
    if name not in at.linear:
        at.linear[name] = _layer(at)
    return at.linear[name]


def _layer(at: Local) -> Layer:
    op = operator_of(at.call)
    matrix = "conv" not in at.call.op
    given = at.call.get("bias") if at.call.op != "addmm" else at.call["self"]
    bias = length(at, given, channels=not matrix)
    row_bias = float(given.double().abs().max()) if isinstance(given, Tensor) and given.numel() else 0.0
    row = math.inf
    if isinstance(op, Dense):
        from robcert.lipschitz.affine import row_norms

        terms, weight = op.matrix.shape[1], op.matrix
        row = float(row_norms(weight, 0.0)["l2"].max())
    elif isinstance(op, Conv):
        terms, weight = math.prod(op.weight.shape[1:]), op.weight
    elif isinstance(op, ConvTranspose):
        weight = op.forward.weight
        terms = weight.shape[0] // op.forward.groups * math.prod(weight.shape[2:])
    else:
        return at.call.refuse("no bound of its rounding is known")
    return Layer(terms, absolute_norm(op, terms), float(weight.abs().max()), bias, row, row_bias)


def absolute_norm(op: Conv | ConvTranspose | Dense, terms: int) -> float:
    """|| |W| ||_2 from above: for A >= 0 and v > 0, ||A||_2^2 <= max_i (A^T A v)_i / v_i (Collatz, Wielandt).

    v is improved by power steps; the smallest of the bounds counts. No term is negative, so that a computed
    entry is off by at most gamma of its roundings, relatively.
    """
    if isinstance(op, ConvTranspose):
        op = op.forward
        terms = math.prod(op.weight.shape[1:])
    magnitude = replace(op, weight=op.weight.abs()) if isinstance(op, Conv) else replace(op, matrix=op.matrix.abs())
    reach = magnitude.weight.numel() if isinstance(magnitude, Conv) else magnitude.matrix.numel()
    error = 1 + 2 * gamma(2 * max(terms, reach) * (op.copies() if isinstance(op, Conv) else 1) + 8)
    v = torch.ones(1, *op.in_shape, dtype=torch.float64)
    best = math.inf
    for _ in range(12):
        w = magnitude.adjoint(magnitude.apply(v))
        found = float((w / v).max())
        if found >= best * 0.999:
            break
        best = found
        v = w.clamp_min(1e-9 * float(w.max())) / max(float(w.max()), 1e-300)
        if not bool((v > 0).all()):
            break
    return 0.0 if best == 0 else up(math.sqrt(up(best * error, 4)), 2)


@local(
    *("linear", "addmm", "mm", "matmul", "bmm", "conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
def dot_products(at: Local) -> float:
    """Sums of n products and a bias, in any order: gamma_{n+1} (|W| |x^| + |b|)."""
    found = layer_of(at)
    size = at.read
    underflow = 8 * (found.terms + 1) * (1 + found.largest + size) * at.unit.tiny
    return total(
        product(at.unit.gamma(found.terms + 1), total(product(found.absolute, size), found.bias)),
        product(root(at.entries), underflow),
    )


def largest_entry(at: Local, distance: float) -> float:
    """The same for the largest entry of the result of a matrix, its input ``distance`` off: E of a logit."""
    if at.call.op not in ("linear", "addmm", "mm", "matmul"):
        return math.inf
    found = layer_of(at)
    size = at.read
    own = product(at.unit.gamma(found.terms + 1), total(product(found.row, size), found.row_bias))
    underflow = 8 * (found.terms + 1) * (1 + found.largest + size) * at.unit.tiny
    return total(product(found.row, distance), own, underflow)


@local(
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    *("adaptive_avg_pool3d", "_adaptive_avg_pool2d", "mean", "sum"),
)
def averaged(at: Local) -> float:
    """A sum of n entries and a division."""
    return at.rounded(terms(at.call), at.moved)


@local("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(at: Local) -> float:
    """A = gamma / sqrt(variance + eps), then x A + (beta - mean A), or (x - mean) A + beta: 10 roundings a term."""
    weight, bias, mean = (at.call[name] for name in ("weight", "bias", "running_mean"))
    scale = 1 / torch.sqrt(at.call["running_var"].double() + float(at.call["eps"]))
    scale = scale if weight is None else scale * weight.double()
    fixed = total(length(at, bias, channels=True), up(length(at, mean.double() * scale, channels=True), 8))
    return at.rounded(10, total(at.moved, fixed))


def terms(call: Call) -> int:
    """At most so many roundings does a term of the result take part in, for an op without cancellation."""
    op = call.op
    if "avg_pool" in op:
        found = operator_of(call)
        assert isinstance(found, Separable)
        return math.prod(max(1, int((m != 0).sum(1).max())) for m in found.matrices if m.numel()) + 4
    if op in ("sum", "mean"):
        return call.values[0].size // max(1, math.prod(call.shape)) + 4
    if op in ("linear", "addmm", "mm", "matmul", "bmm") or op.startswith("conv"):
        found = operator_of(call)
        if isinstance(found, Conv | ConvTranspose):
            conv = found if isinstance(found, Conv) else found.forward
            return conv.weight.numel() + 2
        assert isinstance(found, Dense)
        return int(found.matrix.shape[1]) + 2
    if op.startswith(("batch_norm", "_native_batch_norm")):
        return 10
    return 8


@local("sqrt")
def square_root(at: Local) -> float:
    """The root of sums of squares: every term of the sum is positive, so that relative errors stay relative.

    q^ = q (1 + e) + t with |e| <= gamma_N, t from underflow: |sqrt q^ - sqrt q| <= gamma_N sqrt q + sqrt |t|.
    """
    squares = at.call.values[0].find(Squares)
    if squares is None:
        return at.call.refuse("no bound of its rounding is known")
    roundings, growth = 8, 1.0
    for name in squares.nodes:
        roundings += terms(at.calls[name])
        gain = max((g.linf for _, g in at.call.walk.known[name].sources), default=1.0)
        growth = product(growth, max(1.0, gain) if math.isfinite(gain) else 1.0)
    t = up(8 * roundings * at.unit.tiny * growth, 8)
    return total(product(at.unit.gamma(roundings), at.out), product(root(at.entries), up(math.sqrt(t), 2)))
