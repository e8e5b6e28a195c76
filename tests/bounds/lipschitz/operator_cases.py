"""Convolutions drawn by hypothesis, small enough for a dense matrix."""

from __future__ import annotations

import math

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from robcert.bounds.lipschitz.convolution import MODES, Conv, ConvTranspose, transposed
from robcert.bounds.lipschitz.operators import LinearOperator
from robcert.errors import EvaluationError

LONGEST = {1: 16, 2: 7, 3: 4}
"""The longest side of an input, by the number of axes."""
LARGEST = 360
"""The most entries of the input or the output."""


def matrix(op: LinearOperator) -> Tensor:
    """The whole matrix: (outputs, inputs)."""
    count = math.prod(op.in_shape)
    unit = torch.eye(count, dtype=torch.float64).view(count, *op.in_shape)
    return op.apply(unit).reshape(count, -1).T


def weights(draw: st.DrawFn, shape: tuple[int, ...]) -> Tensor:
    """Random weights, some of them with ties, zeros, one sign, or a very small or large scale."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    kind = draw(st.sampled_from(["normal", "normal", "signs", "positive", "sparse", "scaled"]))
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "signs":
        return normal.sign()
    if kind == "positive":
        return normal.abs()
    if kind == "sparse":
        return normal * (torch.rand(shape, generator=generator) < 0.3)
    return normal * 10.0 ** draw(st.integers(-30, 30)) if kind == "scaled" else normal


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    """Kernels 1-7, strides and dilations 1-3, groups, paddings of all modes, inputs smaller than the kernel."""
    axes = draw(st.sampled_from([1, 1, 2, 2, 2, 3]))
    most = 7 if axes < 3 else 3
    kernel, size, stride, dilation = (
        tuple(draw(st.integers(1, top)) for _ in range(axes)) for top in (most, LONGEST[axes], 3, 3)
    )
    padding = tuple((draw(st.integers(0, 6)), draw(st.integers(0, 6))) for _ in range(axes))
    mode = draw(st.sampled_from(("zeros", *MODES)))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    parts = zip(size, spans, padding, strict=True)  # let the kernel fit in most cases
    size = tuple(max(n, min(LONGEST[axes], span - low - high)) for n, span, (low, high) in parts)
    if mode in ("circular", "reflect"):
        cut = 0 if mode == "circular" else 1
        padding = tuple((min(a, n - cut), min(b, n - cut)) for (a, b), n in zip(padding, size, strict=True))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    shape = groups * draw(st.integers(1, 3)), draw(st.integers(1, 3)), *kernel
    try:
        op = Conv(weights(draw, shape), size, stride, padding, dilation, groups, mode)
    except EvaluationError:
        assume(False)
        raise
    assume(max(math.prod(op.in_shape), math.prod(op.out_shape)) <= LARGEST)
    return op


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> ConvTranspose:
    """The same for transposed convolutions, with output padding."""
    axes = draw(st.sampled_from([1, 2, 2]))
    kernel, size, stride, dilation = (
        tuple(draw(st.integers(1, top)) for _ in range(axes)) for top in (5, LONGEST[axes] // 2, 3, 3)
    )
    padding = tuple(draw(st.integers(0, 4)) for _ in range(axes))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    groups = draw(st.sampled_from([1, 1, 2]))
    shape = groups * draw(st.integers(1, 2)), draw(st.integers(1, 2)), *kernel
    try:
        op = transposed(weights(draw, shape), size, stride, padding, dilation, groups, extra)
    except EvaluationError:
        assume(False)
        raise
    assume(max(math.prod(op.in_shape), math.prod(op.out_shape)) <= LARGEST)
    return op
