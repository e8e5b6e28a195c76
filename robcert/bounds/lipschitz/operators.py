"""Linear operators on a given input size: what a layer of a network does to a difference of two inputs.

An operator has shapes without the batch, ``apply`` and ``adjoint`` in float64, and
`robcert.bounds.lipschitz.norms.operator_norm` bounds its norm. Biases drop out: a norm speaks of differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from robcert.bounds.lipschitz.convolution import MODES, Conv, ConvTranspose, Mode, transposed
from robcert.bounds.lipschitz.pooling import Separable, adaptive_average, average
from robcert.errors import EvaluationError

__all__ = [
    "Bound",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Diagonal",
    "LinearOperator",
    "Mode",
    "Separable",
    "adaptive_average",
    "average",
    "from_module",
    "transposed",
]


_CACHE = 2**20
"""Bytes that stay in a cache while they are read twice."""


@dataclass(frozen=True)
class Bound:
    """lower <= the norm <= upper, in float64, rounded outwards; the norm is that of real arithmetic.

    Attributes:
        lower: attained by a vector (l2), or the exact value rounded down.
        upper: what a certificate may use.
        method: what found ``upper``: "exact", "dense", "circulant", "strip", "lanczos", or how it was put
            together.
    """

    lower: float
    upper: float
    method: str

    @property
    def gap(self) -> float:
        """(upper - lower) / lower; 0 for the zero operator."""
        if self.upper == self.lower:
            return 0.0
        return (self.upper - self.lower) / self.lower if self.lower > 0 else math.inf


class LinearOperator(Protocol):
    """A linear map between tensors of fixed shapes."""

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Without the batch."""
        ...

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Without the batch."""
        ...

    def apply(self, x: Tensor, /) -> Tensor:
        """A x: (n, *in_shape) float64 -> (n, *out_shape)."""
        ...

    def adjoint(self, y: Tensor, /) -> Tensor:
        """A^T y: (n, *out_shape) float64 -> (n, *in_shape)."""
        ...


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix on the last dimension; the dimensions in front are left alone.

    Attributes:
        matrix: (outputs, inputs) float64.
        lead: the dimensions in front.
    """

    matrix: Tensor
    lead: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.matrix.dtype != torch.float64:
            object.__setattr__(self, "matrix", self.matrix.detach().double())

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(*lead, inputs)."""
        return (*self.lead, int(self.matrix.shape[1]))

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(*lead, outputs)."""
        return (*self.lead, int(self.matrix.shape[0]))

    @cached_property
    def absolute_sums(self) -> tuple[Tensor, Tensor]:
        """The sums of |a_ij| over each row (outputs,) and over each column (inputs,).

        A few rows at a time, read once for both: the absolute values of a matrix of 100 million entries would be
        written to memory and back, which costs more than adding them.
        """
        columns = self.matrix.new_zeros(self.matrix.shape[1])
        rows: list[Tensor] = []
        for part in self.matrix.split(max(1, _CACHE // (8 * max(1, self.matrix.shape[1])))):
            size = part.abs()
            rows.append(size.sum(1))
            columns += size.sum(0)
        return torch.cat(rows) if rows else self.matrix.new_zeros(0), columns

    def apply(self, x: Tensor) -> Tensor:
        """A x: (n, *in_shape) float64 -> (n, *out_shape)."""
        return x @ self.matrix.T.to(x.device)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: (n, *out_shape) float64 -> (n, *in_shape)."""
        return y @ self.matrix.to(y.device)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """A factor an entry, y = scale * x.

    Attributes:
        scale: float64, broadcasts against ``shape``.
        shape: of input and output.
        error: every factor is within this relative distance of the real number that it stands for.
    """

    scale: Tensor
    shape: tuple[int, ...]
    error: float = 0.0

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.shape

    def apply(self, x: Tensor) -> Tensor:
        """A x: (n, *shape) float64 -> the same."""
        return x * self.scale.to(x.device)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y = A y."""
        return self.apply(y)


def batch_norm(module: nn.modules.batchnorm._BatchNorm, in_shape: tuple[int, ...]) -> Diagonal:  # pyright: ignore[reportPrivateUsage]
    """BatchNorm in eval mode: the factor gamma / sqrt(variance + eps) of each channel.

    Three float64 roundings and a square root: within 4 u of the real value (5 u stated).
    """
    if module.running_var is None:
        raise EvaluationError("BatchNorm without running statistics is no linear operator")
    variance = module.running_var.detach().double()
    scale = 1 / torch.sqrt(variance + module.eps)
    if module.affine:
        scale = module.weight.detach().double() / torch.sqrt(variance + module.eps)
    _finite(scale)
    return Diagonal(scale.view(-1, *([1] * (len(in_shape) - 1))), in_shape, 5 * 2.0**-53)


def from_module(module: nn.Module, in_shape: tuple[int, ...]) -> LinearOperator | None:
    """The operator of a layer in eval mode, or None for a layer that is not linear (or not known here).

    Args:
        module: Linear, Conv1d-3d, ConvTranspose1d-3d, BatchNorm1d-3d, AvgPool1d-3d, AdaptiveAvgPool1d-3d.
        in_shape: the shape of its input, without the batch.

    Raises:
        EvaluationError: weights that are not finite; an input that the layer cannot take.
    """
    if isinstance(module, nn.Linear):
        _expect(in_shape[-1] == module.in_features, module, in_shape)
        return Dense(_finite(module.weight), in_shape[:-1])
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return _convolution(module, in_shape)
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        _expect(len(in_shape) == module.weight.dim() - 1 and in_shape[0] == module.in_channels, module, in_shape)
        given = (module.stride, cast("tuple[int, ...]", module.padding), module.dilation)
        return transposed(_finite(module.weight), in_shape[1:], *given, module.groups, module.output_padding)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        _expect(in_shape[0] == module.num_features, module, in_shape)
        return batch_norm(module, in_shape)
    for axes, pool in enumerate((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), start=1):
        if isinstance(module, pool):
            kernel = each(module.kernel_size, axes)
            sides = each(module.stride, axes), each(module.padding, axes)
            override = getattr(module, "divisor_override", None)
            return average(in_shape, kernel, *sides, module.ceil_mode, module.count_include_pad, override)
    for axes, pool in enumerate((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), start=1):
        if isinstance(module, pool):
            output = module.output_size
            return adaptive_average(in_shape, output if isinstance(output, tuple) else (output,) * axes)
    return None


def _convolution(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, in_shape: tuple[int, ...]) -> Conv:
    _expect(len(in_shape) == module.weight.dim() - 1 and in_shape[0] == module.in_channels, module, in_shape)
    padding = module.padding
    if padding == "valid":
        sides = tuple((0, 0) for _ in module.kernel_size)
    elif padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        sides = tuple((t // 2, t - t // 2) for t in total)
    else:
        sides = tuple((int(p), int(p)) for p in cast("tuple[int, ...]", padding))
    mode = module.padding_mode
    if mode not in MODES:
        raise EvaluationError(f"unknown padding mode {mode!r}", f"Known: {', '.join(MODES)}.")
    weight = _finite(module.weight)
    return Conv(weight, in_shape[1:], module.stride, sides, module.dilation, module.groups, mode)


def each(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    """One number an axis, as torch's layers understand a single number."""
    return (value,) * axes if isinstance(value, int) else tuple(value) * (axes if len(value) == 1 else 1)


def _expect(holds: bool, module: nn.Module, in_shape: tuple[int, ...]) -> None:
    if not holds:
        raise EvaluationError(f"{module} cannot take an input of shape {in_shape}")


def _finite(weight: Tensor) -> Tensor:
    if not bool(torch.isfinite(weight).all()):
        raise EvaluationError("a weight is NaN or infinite", "Check the file: no norm can be computed from it.")
    return weight.detach().double()
