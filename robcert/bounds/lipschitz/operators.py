"""Linear operators on a given input size: what a layer of a network does to a difference of two inputs.

An operator has shapes without the batch, ``apply`` and ``adjoint`` in float64, and
`robcert.bounds.lipschitz.norms.operator_norm` bounds its norm. Biases drop out: a norm speaks of differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from robcert.bounds.lipschitz.convolution import Conv, ConvTranspose, Mode, transposed
from robcert.bounds.lipschitz.pooling import Separable, adaptive_average, average

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
