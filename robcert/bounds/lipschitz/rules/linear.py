"""Layers with weights: their norms are computed for the input size at hand."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from robcert.bounds.lipschitz.call import LipschitzCall, NotFinite
from robcert.bounds.lipschitz.convolution import Conv, Mode, transposed
from robcert.bounds.lipschitz.operators import Dense, Diagonal
from robcert.bounds.lipschitz.patterns import Padded
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.values import Value
from robcert.graph.call import padding_sides, per_axis


@rule("linear", affine=True)
def linear(call: LipschitzCall) -> Value:
    """W x + b on the last dimension; dimensions in front are left alone."""
    weight, x = call.constant("weight"), call.x
    call.constant("bias")  # it moves nothing
    return call.operator(x, Dense(weight.double(), _lead(x)))


@rule("addmm", "mm", "matmul", "bmm", affine=True)
def product(call: LipschitzCall) -> Value:
    """x W, or W x, with a constant W.

    Axes in front of the two that are multiplied broadcast. Along those that ``x`` has, every part of it meets a matrix
    of its own, and the largest norm counts; along those that only W has, each part of ``x`` meets all of them, which is
    one matrix of all their rows.
    """
    left, right = (call.get(n, call.get(m)) for n, m in (("mat1", "self"), ("mat2", "other")))
    if call.op == "addmm":
        for name in ("beta", "alpha"):
            if call[name] != 1:
                call.refuse(f"{name} = {call[name]} is not supported")
        if isinstance(call["self"], Value):
            raise NotFinite("its bias depends on the input")
    if isinstance(left, Value) and isinstance(right, Value):
        raise NotFinite("it multiplies two tensors that both depend on the input")
    x, matrix = (left, right) if isinstance(left, Value) else (right, left)
    matrix = cast("Tensor", matrix).double()
    if x is left:
        matrix = matrix.unsqueeze(-1) if matrix.dim() == 1 else matrix
        matrix = matrix.transpose(-1, -2)
    elif matrix.dim() == 1:
        matrix = matrix.unsqueeze(0)
    return call.operator(x, Dense(blocks(matrix, x.shape)), label="matmul")


def blocks(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the matrix of a batched product, up to copies of it that meet parts of ``x`` of their own.

    Args:
        matrix: (..., out, in), applied to the last axis but one, or the last, of x.
        shape: of x; its axes in front of the two last ones broadcast against those of ``matrix``.
    """
    lead = matrix.shape[:-2]
    own = (1,) * max(0, len(lead) - max(0, len(shape) - 2)) + tuple(shape[:-2])[-len(lead) :] if lead else ()
    # Axes that x has first, one block each; then the others, whose matrices stand one above the other.
    kept = [axis for axis, size in enumerate(own) if size != 1]
    stacked = [axis for axis, size in enumerate(own) if size == 1]
    last = len(lead)
    ordered = matrix.permute(*kept, *stacked, last, last + 1)
    ordered = ordered.reshape(math.prod(lead[a] for a in kept), -1, matrix.shape[-1])
    return torch.block_diag(*ordered) if len(ordered) > 1 else ordered[0]


@rule("conv1d", "conv2d", "conv3d", "convolution", affine=True)
def convolution(call: LipschitzCall) -> Value:
    """A convolution, together with the padding in front of it, if that was an op of its own.

    Traced TorchScript has the op of all of them, ``convolution``.
    """
    if call.get("transposed"):
        return transposed_convolution(call)
    weight, x = call.constant("weight"), call.x
    call.constant("bias")  # it moves nothing
    call.ignore("output_padding")  # of a transposed convolution
    axes = weight.dim() - 2
    stride, dilation = per_axis(call["stride"], axes), per_axis(call["dilation"], axes)
    sides = padding_sides(call["padding"], weight.shape[2:], dilation)
    mode: Mode = "zeros"
    padded = x.find(Padded)
    # A crop with zeros around it is no padding: what was cut off stays away.
    grows = padded is not None and padded.mode == "zeros" and min(map(min, padded.sides)) >= 0
    if padded is not None and len(padded.sides) == axes and (grows or not any(map(any, sides))):
        x, mode = call.domain.latest(padded.of), cast("Mode", padded.mode)
        sides = tuple((a + c, b + d) for (a, b), (c, d) in zip(sides, padded.sides, strict=True))
    size = tuple(x.shape[-axes:])
    op = Conv(weight.double(), size, stride, sides, dilation, int(call["groups"]), mode)
    return call.operator(x, op, label=f"conv{axes}d")


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", affine=True)
def transposed_convolution(call: LipschitzCall) -> Value:
    """A transposed convolution."""
    weight, x = call.constant("weight"), call.x
    call.constant("bias")  # it moves nothing
    axes = weight.dim() - 2
    stride, padding, dilation, extra = (
        per_axis(call[n], axes) for n in ("stride", "padding", "dilation", "output_padding")
    )
    size = tuple(x.shape[-axes:])
    op = transposed(weight.double(), size, stride, padding, dilation, int(call["groups"]), extra)
    return call.operator(x, op, label=f"conv_transpose{axes}d")


@rule("batch_norm", "_native_batch_norm_legit_no_training", affine=True)
def batch_norm(call: LipschitzCall) -> Any:
    """The factor gamma / sqrt(variance + eps) of each channel; the batch plays no part in eval mode."""
    x = call.domain.latest(call.x)
    for name in ("bias", "running_mean"):
        call.constant(name)  # they move nothing
    call.ignore("momentum")  # of an update that eval mode does not make
    if call.get("training"):
        call.refuse("it normalises with the statistics of the batch", "LipschitzCall eval() on the network.")
    variance, eps = call.constant("running_var"), float(call["eps"])
    weight = call.constant("weight")
    scale = 1 / torch.sqrt(variance.double() + eps)
    if weight is not None:
        scale = weight.double() / torch.sqrt(variance.double() + eps)
    if not bool(torch.isfinite(scale).all()):
        call.refuse("a running variance is negative, NaN or too small")
    shape = tuple(x.shape[1:])
    scale = scale.reshape(-1, *([1] * (len(shape) - 1)))
    value = call.operator(x, Diagonal(scale, shape, 5 * 2.0**-53), label="batch_norm")
    return [value, None, None] if call.op.startswith("_native") else value


def _lead(x: Value) -> tuple[int, ...]:
    return tuple(x.shape[1:-1]) if len(x.shape) > 1 else ()
