"""Pooling: the largest entry, or the mean, of a window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from robcert.bounds.lipschitz.call import LipschitzCall
from robcert.bounds.lipschitz.operators import Separable, adaptive_average
from robcert.bounds.lipschitz.pooling import averages
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.values import ONE, Bounds, Value, copied, product, root
from robcert.graph.call import per_axis
from robcert.math.rounding import gamma


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
      "max_pool1d_with_indices")  # fmt: skip
def max_pool(call: LipschitzCall) -> Any:
    """sqrt K, 1, K with K the largest number of windows that contain one entry.

    |max_w x - max_w y| is at most the largest |x_i - y_i| of the window, and so at most any l_p norm of the
    differences in it; an entry is in K windows at most. K is counted: stride, dilation, ceil_mode and padding
    (which holds minus infinity, no entry) all matter.
    """
    x = call.x
    axes = int(call.op[len("max_pool")])
    kernel = per_axis(call["kernel_size"], axes)
    stride = per_axis(call["stride"] or kernel, axes)
    padding, dilation = per_axis(call["padding"], axes), per_axis(call["dilation"], axes)
    call.ignore("ceil_mode")  # the shape of the result says it
    times = 1
    for axis in range(axes):
        n, outputs = x.shape[axis - axes], call.shape[axis - axes]
        starts = (o * stride[axis] - padding[axis] for o in range(outputs))
        windows = (range(s, s + kernel[axis] * dilation[axis], dilation[axis]) for s in starts)
        times *= most(windows, n)
    return _pooled(call, x, times)


@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(call: LipschitzCall) -> Any:
    """The same with windows [floor(i n / m), ceil((i + 1) n / m)); they overlap unless m divides n."""
    x = call.x
    call.ignore("output_size")  # the shape of the result says it
    axes = int(call.op[len("adaptive_max_pool")])
    times = 1
    for axis in range(axes):
        n, m = x.shape[axis - axes], call.shape[axis - axes]
        times *= most((range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)), n)
    return _pooled(call, x, times)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d", affine=True)
def average_pool(call: LipschitzCall) -> Value:
    """The exact norms of the matrix, a product over the axes."""
    op, override = averages(call, _image(call.x)), call.get("divisor_override")
    return call.operator(call.x, op, roots=_roots(op) if override is None or override > 0 else None)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", affine=True)
def adaptive_average_pool(call: LipschitzCall) -> Value:
    """The exact norms of the matrix, a product over the axes."""
    x = call.x
    call.ignore("output_size")  # the shape of the result says it
    axes = int(call.op[-2])
    op = adaptive_average(_image(x), tuple(call.shape[-axes:]))
    return call.operator(x, op, roots=_roots(op))


@rule("amax", "amin")
def over_dims(call: LipschitzCall) -> Any:
    """The largest entry over some axes, every entry in one window: 1."""
    x = call.x
    call.ignore("dim", "keepdim")  # each entry is in one window, whatever the axes
    value = call.nonlinear(x, ONE, row="max")
    return [value, call.jump()] if call.several else value


def most(windows: Iterable[Iterable[int]], size: int) -> int:
    """The largest number of windows that contain one of the entries 0 ... size - 1."""
    counts = [0] * size
    for window in windows:
        for index in window:
            if 0 <= index < size:
                counts[index] += 1
    return max(counts, default=0)


def _pooled(call: LipschitzCall, x: Value, times: int) -> Any:
    value = call.nonlinear(x, copied(times), row=call.op)
    return [value, call.jump()] if call.several else value


def _roots(op: Separable) -> float:
    """max_i sum_o sqrt(A_oi) of a Kronecker product of matrices without negative entries."""
    result = 1.0
    for matrix in op.matrices:
        column = float(matrix.sqrt().sum(0).max()) if matrix.numel() else 0.0
        result = product(result, product(column, 1 + 2.0**-40) if column != 1 else 1.0)
    return result


def _image(x: Value) -> tuple[int, ...]:
    return tuple(x.shape[1:])


@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", affine=True)
def interpolate(call: LipschitzCall) -> Value:
    """A matrix without negative entries: its largest row and column sums are what ones and its adjoint give.

    ||A||_inf = max A 1, ||A||_1 = max A^T 1, ||A||_2 <= sqrt(||A||_1 ||A||_inf).
    """
    x = call.x
    ones = torch.ones(x.shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        rows = call.run(lambda _: ones)
        (columns,) = torch.autograd.grad(rows.sum(), ones)
    factor = 1 + gamma(4 * math.prod(call.shape))
    linf, l1 = float(rows.max()) * factor, float(columns.max()) * factor
    return call.linear(x, Bounds(product(root(l1), root(linf)), linf, l1), row="interpolate")
