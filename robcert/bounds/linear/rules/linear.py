"""Layers with weights."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from robcert.bounds.linear.affine import Dense, Diagonal
from robcert.bounds.linear.convolution import Convolution, Transposed
from robcert.bounds.linear.rules import Ref, Site, relaxation
from robcert.bounds.linear.step import Step
from robcert.graph.call import padding_sides, per_axis


@relaxation("linear")
def linear(site: Site) -> Step:
    """W x + b on the last axis."""
    weight, bias = site.constant("weight"), site.constant("bias")
    return Dense(*site.head, weight, _bias(bias, weight.shape[0]))


@relaxation("addmm", "mm", "matmul")
def product(site: Site) -> Step:
    """x W with a constant matrix W."""
    left, right = (site.get(n, site.get(m)) for n, m in (("mat1", "self"), ("mat2", "other")))
    if not isinstance(left, Ref) or isinstance(right, Ref) or right.dim() != 2:
        site.refuse("only the product of the input with a constant matrix is known")
    bias = None
    if site.op == "addmm":
        if site["beta"] != 1 or site["alpha"] != 1 or isinstance(site["self"], Ref) or site["self"].dim() > 1:
            site.refuse("its factors are not 1, or its bias is no vector")
        bias = site["self"]
    return Dense(*site.head, right.T.contiguous(), _bias(bias, right.shape[1]))


@relaxation("conv1d", "conv2d", "conv3d")
def convolution(site: Site) -> Step:
    """Zero padding on both sides of each axis, as the op has it."""
    weight = cast("Tensor", site.constant("weight"))
    axes = weight.dim() - 2
    dilation = per_axis(site["dilation"], axes)
    sides = padding_sides(site["padding"], weight.shape[2:], dilation)
    bias = _bias(site.constant("bias"), weight.shape[0])
    return Convolution(
        *site.head, weight, bias, per_axis(site["stride"], axes), sides, dilation, int(site["groups"]), site.x.shape
    )


@relaxation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed(site: Site) -> Step:
    """The adjoint of a convolution."""
    weight = cast("Tensor", site.constant("weight"))
    axes = weight.dim() - 2
    function = getattr(functional, site.op)
    names = ("stride", "padding", "output_padding", "groups", "dilation")
    options = [int(site[n]) if n == "groups" else per_axis(site[n], axes) for n in names]

    def apply(x: Tensor, kernel: Tensor) -> Tensor:
        return function(x, kernel, None, *options)

    channels = int(weight.shape[1]) * int(site["groups"])
    return Transposed(*site.head, weight, _bias(site.constant("bias"), channels), apply, site.x.shape)


@relaxation("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(site: Site) -> Any:
    """A factor and a constant for each channel."""
    if site.get("training"):
        site.refuse("it normalises with the statistics of the batch")
    site.ignore("momentum")  # of an update that eval mode does not make
    x = site.x
    mean, variance = (site.constant(n) for n in ("running_mean", "running_var"))
    scale = 1 / torch.sqrt(variance.double() + float(site["eps"]))
    if site.constant("weight") is not None:
        scale = site["weight"] * scale
    bias = _bias(site.constant("bias"), len(scale))
    if not bool(torch.isfinite(scale).all()):
        site.refuse("a running variance is negative, NaN or too small")
    wide = (-1, *([1] * (len(x.shape) - 1)))
    size = float((bias.abs() + (mean * scale).abs()).amax())
    step = Diagonal(*site.head, scale.view(wide), (bias - mean * scale).view(wide), size)
    return [step, None, None] if site.op.startswith("_native") else step


def _bias(bias: Any, count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float64) if bias is None else cast("Tensor", bias).double()
