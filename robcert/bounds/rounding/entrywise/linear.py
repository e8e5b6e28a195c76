"""Rounding of sums of products, entry by entry: layers with weights, averages, batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from robcert.bounds.linear.affine import Averaged, Dense
from robcert.bounds.linear.bilinear import Bilinear
from robcert.bounds.linear.convolution import Convolution, Transposed
from robcert.bounds.linear.rules import LinearCall
from robcert.bounds.linear.step import Interval, Rounding, Step
from robcert.bounds.rounding.entrywise import WIDE, entrywise, largest, rounded
from robcert.bounds.rounding.entrywise.attention import summed
from robcert.bounds.rounding.rules import FLOAT32
from robcert.graph.call import per_axis


@entrywise("linear", "addmm", "mm", "matmul", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
           "conv_transpose3d")  # fmt: skip
def dot_products(call: LinearCall, step: Step) -> Rounding:
    r"""Sums of k products and a bias, in any order.

    Every addition rounds one partial sum, and none is larger than the sum of all positive terms or that of all negative
    ones, which is half of :math:`|W| |x^| + |b|` and of the result. An addition of an exact 0 rounds nothing, so only
    terms count whose entry may differ from 0.
    """
    if isinstance(step, Bilinear):
        return summed(step, step.terms + 2)
    assert isinstance(step, Dense | Convolution | Transposed)
    apply, count = _sums(step)
    size, bias = step.weight.abs(), step.bias.abs()
    if not isinstance(step, Dense):
        bias = bias.view(-1, *([1] * (step.weight.dim() - 2)))
    scale = float(size.max()) if size.numel() else 0.0
    most = math.prod(step.weight.shape) + 1

    def bound(given: list[Interval], result: Interval) -> Tensor:
        x = largest(given[0])
        total = apply(x, size) + bias
        terms = count((x > 0).double())
        partial = (total + largest(result)) / 2
        relative = FLOAT32.u * (1 + 2 * FLOAT32.gamma(min(most, int(terms.max()) + 2)))
        # Subnormal entries and weights that are read as 0: k (max|W| + max|x|) t.
        tiny = 8 * FLOAT32.tiny * (1 + scale + float(x.max()))
        return (relative * (terms * partial + total) + tiny * (terms + 2)) * WIDE

    return Rounding(bound)


def _sums(
    step: Dense | Convolution | Transposed,
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the layer for other weights, without its bias, and the number of entries 1 that each result reads."""
    if isinstance(step, Dense):
        return functional.linear, lambda ones: ones.sum(-1, keepdim=True)
    if isinstance(step, Convolution):
        return step.apply, step.count
    function, weight = step.function, torch.ones_like(step.weight)
    return function, lambda ones: function(ones, weight)


@entrywise("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
           "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "mean", "sum")  # fmt: skip
def averaged(call: LinearCall, step: Step) -> Rounding:
    """A sum of k entries and a division: k + 4 roundings; no entry of the matrix is negative."""
    assert isinstance(step, Averaged)
    times = _terms(call, step) + 4
    constant = step.constant.abs()

    def bound(given: list[Interval], _: Interval) -> Tensor:
        return rounded(times, step.function(largest(given[0])).abs() + constant, step.gain)

    return Rounding(bound, positive=not bool((step.constant < 0).any()))


def _terms(call: LinearCall, step: Averaged) -> int:
    """At most so many entries are summed."""
    if call.op in ("mean", "sum"):
        return math.prod(step.in_shape) // max(1, math.prod(step.shape))
    if "adaptive" in call.op:
        axes = int(call.op[-2])
        pairs = zip(step.in_shape[-axes:], step.shape[-axes:], strict=True)
        return math.prod(n // m + 2 for n, m in pairs)
    return math.prod(per_axis(call.given["kernel_size"], int(call.op[-2])))


@entrywise("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(call: LinearCall, step: Step) -> Rounding:
    """A = gamma / sqrt(variance + eps), then x A + (beta - mean A), or (x - mean) A + beta: 10 roundings a term."""
    weight, bias, mean, variance = (call.given[name] for name in ("weight", "bias", "running_mean", "running_var"))
    scale = 1 / torch.sqrt(variance + float(call.given["eps"]))
    scale = (scale if weight is None else scale * weight).abs()
    shift = mean.abs() * scale + (0.0 if bias is None else bias.abs())
    # variance + eps cancels: its relative error, and with it that of the scale, has no bound.
    cancels = bool((variance < 0).any()) or float(call.given["eps"]) < 0
    scale, shift = (t.view(-1, *([1] * (len(step.shape) - 1))) for t in (scale, shift))
    steepest = float(scale.max()) if scale.numel() else 0.0

    def bound(given: list[Interval], _: Interval) -> Tensor:
        size = largest(given[0]) * scale + shift
        return size + math.inf if cancels else rounded(10, size, steepest)

    return Rounding(bound)
