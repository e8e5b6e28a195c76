"""Layers with weights."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from robcert.bounds.linear.affine import Dense, Diagonal
from robcert.bounds.linear.convolution import Convolution, Transposed
from robcert.bounds.linear.rules import LinearCall, relaxation
from robcert.bounds.linear.step import Step
from robcert.graph.call import padding_sides, per_axis


@relaxation("linear")
def linear(call: LinearCall) -> Step:
    """W x + b on the last axis."""
    weight, bias = call.constant("weight"), call.constant("bias")
    return Dense(*call.head, weight, _bias(bias, weight.shape[0]))


@relaxation("conv1d", "conv2d", "conv3d")
def convolution(call: LinearCall) -> Step:
    """Zero padding on both sides of each axis, as the op has it."""
    weight = cast("Tensor", call.constant("weight"))
    axes = weight.dim() - 2
    dilation = per_axis(call["dilation"], axes)
    sides = padding_sides(call["padding"], weight.shape[2:], dilation)
    bias = _bias(call.constant("bias"), weight.shape[0])
    return Convolution(
        *call.head, weight, bias, per_axis(call["stride"], axes), sides, dilation, int(call["groups"]), call.x.shape
    )


@relaxation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed(call: LinearCall) -> Step:
    """The adjoint of a convolution."""
    weight = cast("Tensor", call.constant("weight"))
    axes = weight.dim() - 2
    function = getattr(functional, call.op)
    names = ("stride", "padding", "output_padding", "groups", "dilation")
    options = [int(call[n]) if n == "groups" else per_axis(call[n], axes) for n in names]

    def apply(x: Tensor, kernel: Tensor) -> Tensor:
        return function(x, kernel, None, *options)

    channels = int(weight.shape[1]) * int(call["groups"])
    return Transposed(*call.head, weight, _bias(call.constant("bias"), channels), apply, call.x.shape)


@relaxation("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(call: LinearCall) -> Any:
    """A factor and a constant for each channel."""
    if call.get("training"):
        call.refuse("it normalises with the statistics of the batch")
    call.ignore("momentum")  # of an update that eval mode does not make
    x = call.x
    mean, variance = (call.constant(n) for n in ("running_mean", "running_var"))
    scale = 1 / torch.sqrt(variance.double() + float(call["eps"]))
    if call.constant("weight") is not None:
        scale = call["weight"] * scale
    bias = _bias(call.constant("bias"), len(scale))
    if not bool(torch.isfinite(scale).all()):
        call.refuse("a running variance is negative, NaN or too small")
    wide = (-1, *([1] * (len(x.shape) - 1)))
    size = float((bias.abs() + (mean * scale).abs()).amax())
    step = Diagonal(*call.head, scale.view(wide), (bias - mean * scale).view(wide), size)
    return [step, None, None] if call.op.startswith("_native") else step


def _bias(bias: Any, count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float64) if bias is None else cast("Tensor", bias).double()
